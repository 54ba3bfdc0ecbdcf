# shellcheck shell=bash
# Sourced by the recipes: where the project is (root), which Python runs it (PYTHON, unless it is set: .venv beside the
# project, else python3), and how its threads and its memory behave, which must be known before torch is loaded.
root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
if [ -z "${PYTHON:-}" ]; then
    PYTHON=python3
    [ -x "$root/.venv/bin/python" ] && PYTHON=$root/.venv/bin/python
fi
export PYTHON PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
export GOMP_SPINCOUNT="${GOMP_SPINCOUNT:-20000}" # let waiting threads sleep soon: beside other jobs that saves most of the time
export THP_MEM_ALLOC_ENABLE="${THP_MEM_ALLOC_ENABLE:-1}" # large pages for large tensors, where the kernel offers them
