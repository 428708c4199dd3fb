#!/usr/bin/env bash
# On a machine with a GPU, torch and nvcc, and no network: builds in place, runs the CUDA tests, measures. Within ten minutes.
#
#     OUT=folder benchmarks/gpu.sh                 all of it; the folder defaults to benchmarks/results
#     STAGES="test ops" benchmarks/gpu.sh          parts of it, in this order
#
#     build      rrfast with the machine's torch and nvcc; kernels.json: what the kernels use of the GPU
#     test       every test with device="cuda"
#     compile    torch.compile's versions of every op, side by side, into its cache
#     ops        every op against eager torch, torch.compile and a copy
#     bench      rrfast bench on resnet20, resnet110, wrn28_10 (32 x 32) and resnet50 (224 x 224)
#     steps      the RAT step against a standard one, with its peak memory; CUDA graphs against eager calls
#     radius     the radius of wrn28_10 at batch 1024 against its bare passes
#     sanitize   memcheck, racecheck and initcheck over the tests of the ops; not by default
#
# Each stage has a time limit of its own and a log, $OUT/gpu-<stage>.log, and runs whatever became of the one before it; the script
# fails if one did. $OUT/<device>/ gets the measurements.
#
#     PYTHON            the interpreter that has torch (python3)
#     DEVICE            cuda; cpu rehearses the stages without a GPU
#     ARCHITECTURES     to compile for (native)
#     WHEELS            a folder of further wheels to install first; `make wheels` fills one
#     BUILD_LIMIT, TEST_LIMIT, COMPILE_LIMIT, OPS_LIMIT, BENCH_LIMIT, STEPS_LIMIT, RADIUS_LIMIT, SANITIZE_LIMIT    seconds
#     SECONDS_PER_CASE  of measurement (0.3)
#     MODELS            of the stage bench, of those above
#     CHECKS            of the stage sanitize (memcheck racecheck initcheck)
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
        # Not loaded, they would be measured as the reference that stands in for them.
        "$python" -c "import rrfast; assert rrfast.config()['libraries']['cuda']['state'] == 'loaded', rrfast.config()" || return
        "$python" -c "import json, rrfast._C as c; print(json.dumps(c.kernel_attributes(), indent=1))" >"$out/kernels.json"
    fi
}

stage_test() {
    # The project's own settings need pytest-timeout, and some tests need packages that a GPU machine may lack: what cannot run is
    # named and left out, the rest runs.
    local options=(-q -ra --continue-on-collection-errors -p no:cacheprovider -o addopts= -W "ignore::pytest.PytestConfigWarning")
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
    if has xdist; then options+=(-n 8 --dist worksteal -p no:benchmark); fi
    OMP_NUM_THREADS=2 "$python" -m pytest python_tests "${options[@]}" -k "$device"
}

benchmarks() {
    if ! has pytest_benchmark; then
        echo "The benchmarks need pytest-benchmark; WHEELS= can bring it." && return 1
    fi
    "$python" -m benchmarks --device "$device" --results "$out" --seconds "${SECONDS_PER_CASE:-0.3}" -q "$@"
}

# One op of one shape takes the compiler seconds, and the GPU microseconds. What is compiled here, by all cores, comes from
# torch's cache when it is timed.
stage_compile() {
    local processes=()
    if has xdist; then processes=(-n 8); fi
    TORCHINDUCTOR_COMPILE_THREADS=2 benchmarks --name compiled --part ops --compile-only "${processes[@]}"
    local status=$?
    rm -f "$out"/*/compiled.{json,md}
    return $status
}

stage_ops() {
    # It stops by itself a little before it would be stopped, and then keeps what it has.
    benchmarks --part ops --limit "$((limit - 10))"
}

stage_steps() {
    local status=0
    "$python" -m benchmarks.step_memory --device "$device" --results "$out" || status=1
    benchmarks --part passes --name steps --limit "$((limit - 30))" -k "bench_rat_step or captured" || status=1
    return $status
}

stage_radius() {
    benchmarks --part passes --name radius --limit "$((limit - 10))" -k "bench_radius and not captured"
}

stage_bench() {
    local name status=0 folder
    folder=$out/$("$python" -c "from benchmarks.__main__ import environment, slug; print(slug(environment('$device')['device']))") || return
    for name in ${MODELS:-resnet50 wrn28_10 resnet110 resnet20}; do
        bench_"$name" --device "$device" --seconds "${SECONDS_PER_CASE:-0.3}" --out "$folder/bench-$name" || status=1
    done
    return $status
}
# All methods where a forward is quick; elsewhere those of at most 26 passes, and the loop that was released.
few=fast,bs,search,refined,grad
bench_resnet20() { rrfast_bench --model pytorchcv:resnet20_cifar10 --batch 128 --dtype float32 bfloat16 "$@"; }
bench_resnet110() { rrfast_bench --model pytorchcv:resnet110_cifar10 --batch 1 16 64 --samples 64 --methods $few "$@"; }
bench_wrn28_10() { rrfast_bench --model pytorchcv:wrn28_10_cifar10 --batch 512 --samples 512 --methods $few --dtype float32 bfloat16 "$@"; }
bench_resnet50() {
    local zoo=pytorchcv:resnet50b # the same network, where torchvision is not installed
    if has torchvision; then zoo=torchvision:resnet50; fi
    rrfast_bench --model $zoo --size 224 --batch 64 --samples 64 --methods $few --dtype float32 bfloat16 "$@"
}
rrfast_bench() {
    if [ "$device" = cpu ]; then set -- "$@" --batch 2 --samples 2 --methods fast; fi
    "$python" -c "import sys; from rrfast.cli import main; sys.argv[0] = 'rrfast'; sys.exit(main())" bench "$@"
}

stage_sanitize() {
    # torch's allocator hands out parts of large blocks, within which nothing is out of bounds.
    export PYTORCH_NO_CUDA_MEMORY_CACHING=1
    local check only status=0
    for check in ${CHECKS:-memcheck racecheck initcheck}; do
        only=(--kernel-regex kns=rrfast)
        # What torch's kernels wrote counts as initialised only if they are watched too.
        if [ "$check" = initcheck ]; then only=(); fi
        compute-sanitizer --tool "$check" --error-exitcode 1 --target-processes all "${only[@]}" --log-file "$out/sanitize-$check.log" \
            "$python" -m pytest python_tests/ops -q -p no:cacheprovider -o addopts= -k "$device" || status=1
    done
    return $status
}

# A hung stage must not eat the rest: `timeout` interrupts it and all that it started, so that it can write what it has.
run() {
    local name=$1 status=0 begin=$SECONDS
    export limit=$2
    printf '\n== %s (at most %d s)\n' "$name" "$limit"
    timeout --signal=INT --kill-after=5 "$limit" bash -o pipefail -c "$(declare -f); stage_$name" 2>&1 | tee "$out/gpu-$name.log" || status=$?
    if [ "$status" = 124 ] || [ "$status" = 137 ]; then echo "$name ran past its $limit s"; fi
    if [ "$status" != 0 ]; then failed+=("$name"); fi
    printf '== %s: status %d after %d s\n' "$name" "$status" "$((SECONDS - begin))"
}

export python device out few
for name in ${STAGES:-build test compile ops bench steps radius}; do
    case $name in
        build) run build "${BUILD_LIMIT:-100}" ;;
        test) run test "${TEST_LIMIT:-110}" ;;
        compile) run compile "${COMPILE_LIMIT:-60}" ;;
        ops) run ops "${OPS_LIMIT:-85}" ;;
        bench) run bench "${BENCH_LIMIT:-90}" ;;
        steps) run steps "${STEPS_LIMIT:-65}" ;;
        radius) run radius "${RADIUS_LIMIT:-50}" ;;
        sanitize) run sanitize "${SANITIZE_LIMIT:-600}" ;;
        *) echo "STAGES has '$name'; expected some of: build test compile ops bench steps radius sanitize" && exit 2 ;;
    esac
done
if [ "${#failed[@]}" -gt 0 ]; then printf '\nFailed: %s\n' "${failed[*]}" && exit 1; fi
