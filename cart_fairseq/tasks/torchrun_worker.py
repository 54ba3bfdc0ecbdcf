"""One of the processes that train together: `torchrun … -m cart_fairseq.tasks.torchrun_worker ARGUMENTS OF FAIRSEQ-TRAIN`.

fairseq reads torchrun's environment itself only where there are GPUs; here it is handed over as options.
"""

import os
import sys

from cart_fairseq.processes import end_with_parent


def main() -> None:
    """Run fairseq-train as the process that torchrun's environment describes."""
    from fairseq_cli.train import cli_main

    from cart_fairseq.tasks import plugin  # noqa: F401 - fairseq scans no package that is imported already

    end_with_parent()  # torchrun starts its workers in sessions of their own: killed, it would leave them behind
    sys.argv += ["--distributed-init-method", "env://", "--distributed-no-spawn"]
    sys.argv += ["--distributed-rank", os.environ["RANK"], "--device-id", os.environ["LOCAL_RANK"]]
    cli_main()


if __name__ == "__main__":
    main()
