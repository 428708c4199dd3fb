from typing import TypedDict

class BuildInfo(TypedDict):
    version: str
    compiler: str
    instruction_sets: list[str]
    torch_headers: str
    torch_target: str
    cuda: str | None
    cuda_architectures: list[str]

class KernelAttributes(TypedDict):
    registers: int
    shared_bytes: int
    local_bytes: int
    max_threads: int

def build_info() -> BuildInfo: ...
def kernel_attributes() -> dict[str, KernelAttributes]: ...
