#!/usr/bin/env bash
# On a machine with a GPU, torch and nvcc, and no network: builds in place, runs the CUDA tests, measures. Within ten minutes.
#
#     OUT=folder benchmarks/gpu.sh                 all of it; the folder defaults to benchmarks/results
#     STAGES="test bench" benchmarks/gpu.sh        parts of it, in this order
#
# Each stage has a time limit of its own and a log, $OUT/gpu-<stage>.log, and runs whatever became of the one before it; the script
# fails if one did. $OUT/<device>/ gets the measurements, $OUT/kernels.json what the kernels use of the GPU.
#
#     PYTHON            the interpreter that has torch (python3)
#     DEVICE            cuda; cpu rehearses the stages without a GPU
#     ARCHITECTURES     to compile for (native)
#     WHEELS            a folder of further wheels to install first, such as pytest-benchmark's
#     BUILD_LIMIT, TEST_LIMIT, BENCH_LIMIT    seconds (200, 160, 220)
#     SECONDS_PER_CASE  of measurement (0.5)
set -uo pipefail
cd "$(dirname "$0")/.." || exit
python=${PYTHON:-python3}
device=${DEVICE:-cuda}
out=${OUT:-benchmarks/results}
mkdir -p "$out" && out=$(cd "$out" && pwd) || exit
failed=()

has() { "$python" -c "import importlib.util as u, sys; sys.exit(u.find_spec('$1') is None)"; }

stage_build() {
    local cuda=on
    if [ "$device" = cpu ]; then cuda=off; fi
    local pip=("$python" -m pip --disable-pip-version-check install --no-index --no-deps)
    if [ -n "${WHEELS:-}" ]; then "${pip[@]}" "$WHEELS"/*.whl || return; fi
    RRFAST_BUILD=required RRFAST_CUDA=$cuda RRFAST_CUDA_ARCHITECTURES=${ARCHITECTURES:-native} \
        "${pip[@]}" --no-build-isolation -v -e . || return
    "$python" -m rrfast || return
    if [ "$device" = cuda ]; then
        "$python" -c "import json, rrfast._C as c; print(json.dumps(c.kernel_attributes(), indent=1))" >"$out/kernels.json"
    fi
}

stage_test() {
    # The project's own settings need pytest-timeout, and some tests need packages that a GPU machine may lack: what cannot run is
    # named and left out, the rest runs.
    local options=(-q -ra -p no:cacheprovider -o addopts= -W "ignore::pytest.PytestConfigWarning")
    if has pytest_timeout; then options+=(--timeout 60); fi
    local module file
    for module in hypothesis scipy sklearn matplotlib lightning_fabric msgspec ruamel; do
        if has "$module"; then continue; fi
        # rrfast's own training needs the last three.
        local imports=$module
        case $module in lightning_fabric | msgspec | ruamel) imports="($module|rrfast\.(train|evaluate))" ;; esac
        while read -r file; do
            printf 'left out, for want of %s: %s\n' "$module" "$file"
            options+=(--ignore "$file")
        done < <(grep -rlE "^ *(import|from) $imports\b" python_tests)
    done
    "$python" -m pytest python_tests "${options[@]}" -k "$device"
}

stage_bench() {
    if ! has pytest_benchmark; then
        echo "The benchmarks need pytest-benchmark; WHEELS= can bring it." && return 1
    fi
    # It stops by itself a little before it would be stopped, and then keeps what it has.
    "$python" -m benchmarks --device "$device" --results "$out" --seconds "${SECONDS_PER_CASE:-0.5}" \
        --limit "$((${BENCH_LIMIT:-220} - 20))" -q
}

# A hung stage must not eat the rest: `timeout` ends it and all that it started.
run() {
    local name=$1 limit=$2 status=0 begin=$SECONDS
    printf '\n== %s (at most %d s)\n' "$name" "$limit"
    timeout --kill-after=10 "$limit" bash -o pipefail -c "stage_$name" 2>&1 | tee "$out/gpu-$name.log" || status=$?
    if [ "$status" = 124 ] || [ "$status" = 137 ]; then echo "$name ran past its $limit s"; fi
    if [ "$status" != 0 ]; then failed+=("$name"); fi
    printf '== %s: status %d after %d s\n' "$name" "$status" "$((SECONDS - begin))"
}

export python device out
export -f has stage_build stage_test stage_bench
for name in ${STAGES:-build test bench}; do
    case $name in
        build) run build "${BUILD_LIMIT:-200}" ;;
        test) run test "${TEST_LIMIT:-160}" ;;
        bench) run bench "${BENCH_LIMIT:-220}" ;;
        *) echo "STAGES has '$name'; expected some of: build test bench" && exit 2 ;;
    esac
done
if [ "${#failed[@]}" -gt 0 ]; then printf '\nFailed: %s\n' "${failed[*]}" && exit 1; fi
