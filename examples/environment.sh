# shellcheck shell=bash
# Sourced by the recipes: where the project is (root), which Python runs it (PYTHON, unless it is set: that of the activated
# environment, else .venv beside the project, whichever has torch and fairseq, else python3), and how its threads and its
# memory behave, which must be known before torch is loaded.
root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
if [ -z "${PYTHON:-}" ]; then
    PYTHON=python3
    for candidate in ${VIRTUAL_ENV:+"$VIRTUAL_ENV/bin/python"} "$root/.venv/bin/python"; do
        [ -x "$candidate" ] || continue
        if "$candidate" -c 'from importlib.util import find_spec as f; exit(not (f("torch") and f("fairseq")))'; then
            PYTHON=$candidate
            break
        fi
        echo "note: $candidate has no torch or no fairseq and is left out" >&2
    done
fi
if ! command -v "$PYTHON" >/dev/null; then
    echo "error: PYTHON is '$PYTHON', which is no program; run 'make setup', or set PYTHON to a Python with this project" >&2
    exit 2
fi
export PYTHON PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
export GOMP_SPINCOUNT="${GOMP_SPINCOUNT:-20000}" # let waiting threads sleep soon: beside other jobs that saves most of the time
export THP_MEM_ALLOC_ENABLE="${THP_MEM_ALLOC_ENABLE:-1}" # large pages for large tensors, where the kernel offers them
