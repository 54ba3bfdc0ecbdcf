"""A training process for torchrun: `torchrun … -m cart_fairseq.tasks.torchrun_worker ARGUMENTS OF FAIRSEQ-TRAIN`.

fairseq reads torchrun's environment variables only with GPUs. This module passes them as options.
"""

import os
import sys

from cart_fairseq.base.processes import end_with_parent


def main() -> None:
    """Run fairseq-train with the rank and device that torchrun's environment variables give."""
    from fairseq_cli.train import cli_main

    end_with_parent()  # torchrun's workers have their own sessions and would outlive it
    sys.argv += ["--distributed-init-method", "env://", "--distributed-no-spawn"]
    sys.argv += ["--distributed-rank", os.environ["RANK"], "--device-id", os.environ["LOCAL_RANK"]]
    cli_main()


if __name__ == "__main__":
    main()
