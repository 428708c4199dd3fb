#!/usr/bin/env bash
# On a machine with a GPU, torch and nvcc, and no network: builds, runs the CUDA tests, measures. All of it in a quarter of an
# hour, or in two calls of eight minutes:
#
#     STAGES="build test sanitize" benchmarks/gpu.sh
#     STAGES="ops radius bench rat" benchmarks/gpu.sh
#
#     build      rrfast with the machine's torch and nvcc, in an environment of its own; comes first by itself where it is missing
#     test       every test with device="cuda"
#     sanitize   every kernel against the CPU's without torch, as it is, beyond 2^32 elements, and under memcheck, racecheck,
#                synccheck and initcheck
#     ops        every op against eager torch, torch.compile, a copy and a sum of 2 GiB; targets first
#     radius     the radius of wrn28_10 at batch 1024 against its bare passes; is it free?; CUDA graphs against eager calls
#     bench      rrfast bench on resnet50 (224 x 224), wrn28_10, resnet110 and resnet20 (32 x 32)
#     rat        the RAT step against a standard one, and its peak memory
#
# A stage has a time limit of its own and ends with an archive, $OUT/gpu-<stage>.tar.gz, whatever became of it or of the one
# before, also when the script is told to stop: what is in it goes into $RESULTS/<device>/, as `tar -xzf … -C $RESULTS` would put it.
# The script fails if a stage did.
#
#     PYTHON             the interpreter that has torch (python3)
#     DEVICE             cuda; cpu rehearses the stages without a GPU
#     ARCHITECTURES      to compile for (native)
#     WHEELS             a folder of further wheels (wheels, if it is there); `make wheels` fills it
#     OUT, RESULTS       folders: of the archives (build/gpu), of the results (benchmarks/results)
#     WORK               of the environment and of what stages are at (build/gpu)
#     LIMIT              seconds in all (480; 1020 where STAGES are not named); none begins that has not 20 of them
#     BUILD_LIMIT, TEST_LIMIT, SANITIZE_LIMIT, OPS_LIMIT, RADIUS_LIMIT, BENCH_LIMIT, RAT_LIMIT    seconds of a stage
#     TESTS              of the stage test (the files that have tests for a GPU)
#     SECONDS_PER_CASE   of measurement (0.3)
#     BENCHMARK_OPTIONS  further options of `python -m benchmarks`
#     PROCESSES          of tests and of the compiler at once (8)
#     MODELS             of the stage bench, of those above (digits_cnn where DEVICE is cpu)
#     CHECKS             of the stage sanitize (memcheck racecheck synccheck initcheck)
#     LAUNCHES           of every kernel at least, in the stage sanitize (1)
set -uo pipefail
set -m # a stage can be interrupted: what a script starts in the background ignores it otherwise
cd "$(dirname "$0")/.." || exit
python=${PYTHON:-python3}
device=${DEVICE:-cuda}
stages=${STAGES:-build test sanitize ops radius bench rat}
work=${WORK:-build/gpu}
out=${OUT:-$work}
results=${RESULTS:-benchmarks/results}
mkdir -p "$work" "$out" "$results" || exit
work=$(cd "$work" && pwd) out=$(cd "$out" && pwd)
for name in $stages; do
    case $name in
        build | test | sanitize | ops | radius | bench | rat) ;;
        *) echo "STAGES has '$name'; expected some of: build test sanitize ops radius bench rat" && exit 2 ;;
    esac
done
if [ "$device" = cuda ]; then
    gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1)
    if [ -z "$gpu" ]; then echo "nvidia-smi shows no GPU; DEVICE=cpu rehearses without one" && exit 2; fi
else
    gpu=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -n 1)
fi
slug=$(tr '[:upper:]' '[:lower:]' <<<"$gpu" | sed -E 's/[^a-z0-9]+/-/g; s/^-|-$//g')
wheels=${WHEELS-$(if [ -d wheels ]; then echo wheels; fi)}
failed=()

has() { "$python" -c "import importlib.util as u, sys; sys.exit(u.find_spec('$1') is None)"; }
left() { echo "$((limit - SECONDS - ${1:-0}))"; } # seconds of the running stage

stage_build() {
    # Debian's Python takes no packages but in an environment. This one has all that its maker has, who may be one himself, so that
    # --system-site-packages would not do; and no pip of its own, which takes seconds.
    "$base" -m venv --clear --without-pip "$work/venv" || return
    "$base" -c "import sys; print(*(p for p in sys.path if p.endswith('-packages')), sep='\n')" \
        >"$("$python" -c "import sysconfig; print(sysconfig.get_path('purelib'))")/base.pth" || return
    local pip=("$python" -m pip --disable-pip-version-check install --no-index --no-deps)
    if [ -n "$wheels" ]; then "${pip[@]}" "$wheels"/*.whl || return; fi
    local cuda=on program=EVERY_KERNEL
    if [ "$device" = cpu ]; then cuda=off program=EMULATE; fi
    CMAKE_ARGS="-DRRFAST_$program=ON -DCMAKE_RUNTIME_OUTPUT_DIRECTORY=$work/bin" \
        RRFAST_BUILD=required RRFAST_CUDA=$cuda RRFAST_CUDA_ARCHITECTURES=${ARCHITECTURES:-native} \
        "${pip[@]}" --no-build-isolation -v -e . || return
    "$python" -m rrfast || return
    if [ "$device" = cuda ]; then
        # Not loaded, they would be measured as the reference that stands in for them.
        "$python" -c "import json, rrfast
from rrfast import _native
assert rrfast.config()['libraries']['cuda']['state'] == 'loaded', rrfast.config()
print(json.dumps(_native.kernel_attributes(), indent=1))" >"$folder/kernels.json"
    fi
}

stage_test() {
    # The project's own settings need pytest-timeout, and some tests need packages that a GPU machine may lack: what cannot run is
    # named and left out, the rest runs.
    local options=(-q -ra --continue-on-collection-errors -p no:cacheprovider -o addopts= -W "ignore::pytest.PytestConfigWarning")
    if has pytest_timeout; then options+=(--timeout 60); fi
    local files module file
    # Those that have tests for a GPU: each process collects them all, and the others are ten times as many.
    mapfile -t files < <(tr ' ' '\n' <<<"${TESTS:-$(grep -rlE --include='test_*.py' "$has_gpu_tests" python_tests | sort)}")
    for module in hypothesis scipy sklearn matplotlib lightning_fabric msgspec ruamel; do
        if has "$module"; then continue; fi
        # rrfast's own training needs the last three.
        local imports=$module
        case $module in lightning_fabric | msgspec | ruamel) imports="($module|rrfast\.(train|evaluate))" ;; esac
        while read -r file; do
            printf 'left out, for want of %s: %s\n' "$module" "$file"
            options+=(--ignore "$file")
        done < <(grep -lE "^ *(import|from) $imports\b" "${files[@]}")
    done
    if has xdist && [ "$processes" -gt 1 ]; then options+=(-n "$processes" --dist worksteal -p no:benchmark); fi
    OMP_NUM_THREADS=2 "$python" -m pytest "${options[@]}" -k "$device or the_device" --junitxml "$folder/test.xml" "${files[@]}"
}
# A fixture, or what asks whether there is one.
has_gpu_tests='^ *def test_.*\bdevice\b|\bdevice: torch\.device|cuda\.is_available'

stage_sanitize() {
    local program=$work/bin/every_kernel check status=0
    if [ "$device" = cpu ]; then program=$work/bin/emulated_every_kernel; fi
    "$program" --every "${LAUNCHES:-1}" || status=1
    "$program" --huge || status=1
    local sanitizer each
    sanitizer=$(PATH=$PATH:/usr/local/cuda/bin command -v compute-sanitizer) || {
        echo "There is no compute-sanitizer; it comes with the CUDA toolkit." && return 1
    }
    each=$(($(left 5) / 4))
    for check in ${CHECKS:-memcheck racecheck synccheck initcheck}; do
        echo "-- $check"
        timeout --signal=INT --kill-after=5 "$each" "$sanitizer" --tool "$check" --error-exitcode 1 \
            --log-file "$folder/sanitize-$check.txt" "$program" --every "${LAUNCHES:-1}" || status=1
        tail -n 3 "$folder/sanitize-$check.txt"
    done
    return $status
}

benchmarks() {
    if ! has pytest_benchmark; then
        echo "The benchmarks need pytest-benchmark; WHEELS= can bring it." && return 1
    fi
    # shellcheck disable=SC2086
    "$python" -m benchmarks --device "$device" --results "$(dirname "$folder")" --seconds "${SECONDS_PER_CASE:-0.3}" -q "$@" ${BENCHMARK_OPTIONS:-}
}

stage_ops() {
    # One op of one shape takes the compiler seconds, and the GPU microseconds. What is compiled at first, by all cores, comes from
    # torch's cache when it is timed; what is not, is compiled then.
    if has xdist && [ "$processes" -gt 1 ]; then
        TORCHINDUCTOR_COMPILE_THREADS=2 benchmarks --part ops --name compiled --compile-only -n "$processes" --limit "$((limit / 2))"
        rm -f "$folder"/compiled.*
    fi
    # It stops by itself a little before it would be stopped, and then keeps what it has.
    benchmarks --part ops --limit "$(left 10)"
}

stage_radius() { benchmarks --part passes --name radius --limit "$(left 10)" -k bench_radius; }

stage_rat() {
    local status=0 few=()
    if [ "$device" = cpu ]; then few=(--models digits_cnn); fi
    benchmarks --part passes --name rat --limit "$(left 20)" -k bench_rat_step || status=1
    "$python" -m benchmarks.step_memory --device "$device" --results "$(dirname "$folder")" "${few[@]}" || status=1
    return $status
}

stage_bench() {
    local name status=0
    for name in $models; do
        bench_"$name" --device "$device" --seconds "${SECONDS_PER_CASE:-0.3}" --out "$folder/bench-$name" || status=1
    done
    return $status
}
# All methods where a forward is quick; elsewhere those of at most 26 passes, and the loop that was released.
few=fast,bs,search,refined,grad
bench_digits_cnn() { rrfast_bench --model rrfast.models:digits_cnn --data digits --methods $few "$@"; }
bench_resnet20() { rrfast_bench --model pytorchcv:resnet20_cifar10 --batch 128 --dtype float32 bfloat16 "$@"; }
bench_resnet110() { rrfast_bench --model pytorchcv:resnet110_cifar10 --batch 1 16 64 --samples 64 --methods $few "$@"; }
bench_wrn28_10() { rrfast_bench --model pytorchcv:wrn28_10_cifar10 --batch 512 --samples 512 --methods $few --dtype float32 bfloat16 "$@"; }
bench_resnet50() {
    local zoo=pytorchcv:resnet50b # the same network, where torchvision is not installed
    if has torchvision; then zoo=torchvision:resnet50; fi
    rrfast_bench --model $zoo --size 224 --batch 64 --samples 64 --methods $few --dtype float32 bfloat16 "$@"
}
rrfast_bench() {
    if [ "$device" = cpu ]; then set -- "$@" --batch 2 --samples 8 --methods fast; fi
    "$python" -m rrfast bench "$@"
}

state() { nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,temperature.gpu,memory.used,utilization.gpu --format=csv; }

# A hung stage must not eat the rest: `timeout` interrupts it and all that it started, so that it can write what it has.
run() {
    stage=$1 limit=$((total - SECONDS - 10))
    local status=0 begin=$SECONDS
    if [ "$limit" -lt 10 ]; then
        printf '\n== %s: no time is left for it\n' "$stage" && failed+=("$stage") && return
    fi
    if [ "$2" -lt "$limit" ]; then limit=$2; fi
    folder=$work/stages/$stage/$slug
    log=$folder/gpu-$stage.txt
    rm -rf "$work/stages/$stage" && mkdir -p "$folder" || exit
    printf '\n== %s (at most %d s)\n' "$stage" "$limit" | tee "$log"
    state >>"$log" 2>&1
    timeout --signal=INT --kill-after=5 "$limit" bash -o pipefail -c "$(declare -f); stage_$stage" >>"$log" 2>&1 &
    running=$!
    tail -n +3 -s 0.2 -f --pid=$running "$log" &
    wait $running || status=$?
    running=
    wait
    if [ "$status" = 124 ] || [ "$status" = 137 ]; then echo "$stage ran past its $limit s" | tee -a "$log"; fi
    if [ "$status" != 0 ]; then failed+=("$stage"); fi
    state >>"$log" 2>&1
    printf '== %s: status %d after %d s\n' "$stage" "$status" "$((SECONDS - begin))" | tee -a "$log"
    pack
}

# Whole or not at all: the script may be killed while it packs.
pack() {
    tar -czf "$out/gpu-$stage.tar.gz.part" -C "$work/stages/$stage" "$slug" &&
        mv "$out/gpu-$stage.tar.gz.part" "$out/gpu-$stage.tar.gz" &&
        cp -R "$work/stages/$stage/$slug" "$results/"
}

stop() {
    if [ -n "$running" ]; then
        echo "$stage was told to stop" | tee -a "$log"
        kill -INT "$running"
        wait "$running"
        pack
    fi
    exit 143
}
running=
trap stop TERM INT HUP

base=$python python=$work/venv/bin/python processes=${PROCESSES:-8}
total=${LIMIT:-$(if [ -n "${STAGES:-}" ]; then echo 480; else echo 1020; fi)}
models=${MODELS:-resnet50 wrn28_10 resnet110 resnet20}
if [ "$device" = cpu ]; then models=${MODELS:-digits_cnn}; fi
export models base python device work wheels processes folder limit few has_gpu_tests
if [ ! -x "$python" ] && [[ " $stages " != *" build "* ]]; then stages="build $stages"; fi
for name in $stages; do
    case $name in
        build) run build "${BUILD_LIMIT:-180}" ;;
        test) run test "${TEST_LIMIT:-190}" ;;
        sanitize) run sanitize "${SANITIZE_LIMIT:-150}" ;;
        ops) run ops "${OPS_LIMIT:-200}" ;;
        radius) run radius "${RADIUS_LIMIT:-110}" ;;
        bench) run bench "${BENCH_LIMIT:-100}" ;;
        rat) run rat "${RAT_LIMIT:-80}" ;;
    esac
done
if [ "${#failed[@]}" -gt 0 ]; then printf '\nFailed: %s\n' "${failed[*]}" && exit 1; fi
