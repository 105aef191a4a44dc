"""Which nodes of a bundle's graphs does ONNX Runtime's CUDA provider take? Needs no GPU, only gcc.

python -m benchmarks.cuda_nodes BUNDLE --python PYTHON [--graph NAME ...]

PYTHON is an interpreter with onnxruntime-gpu, in a separate environment, because it shares its import name with
onnxruntime. The provider runs over stubs of CUDA's libraries: memory is the host's, copies are real, kernels do
nothing. While it creates a session it decides, as on a GPU, where each node runs and what is copied. The results of a
run mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from unimoe_runtime.bundle.reader import Bundle, expert_name, open_bundle, trunk_name

# The functions that must do more than return 0. {} is the function's name.
_ALLOCATE = "int {}(void** p, size_t n) {{ *p = aligned_alloc(512, (n + 1023) / 512 * 512); return 0; }}"
_HANDLE = "int {}(void** p) {{ *p = calloc(1, 4096); return 0; }}"
_NAME = 'const char* {}(int error) {{ return "stand-in"; }}'
_VERSION = "int {}(int* v) {{ *v = 13000; return 0; }}"
_SPECIAL = {
    "cudaGetDeviceCount": "int {}(int* n) {{ *n = 1; return 0; }}",
    "cudaGetDevice": "int {}(int* n) {{ *n = 0; return 0; }}",
    "cudaMalloc": _ALLOCATE,
    "cudaMallocHost": _ALLOCATE,
    "cudaHostAlloc": _ALLOCATE,
    "cudaFree": "int {}(void* p) {{ free(p); return 0; }}",
    "cudaFreeHost": "int {}(void* p) {{ free(p); return 0; }}",
    "cudaMemcpy": "int {}(void* d, const void* s, size_t n) {{ memmove(d, s, n); return 0; }}",
    "cudaMemcpyAsync": "int {}(void* d, const void* s, size_t n) {{ memmove(d, s, n); return 0; }}",
    "cudaMemGetInfo": "int {}(size_t* a, size_t* b) {{ *a = *b = (size_t)8 << 30; return 0; }}",
    # Attributes 75 and 76 are the compute capability.
    "cudaDeviceGetAttribute": "int {}(int* v, int a) {{ *v = a == 75 ? 8 : a == 76 ? 9 : 1024; return 0; }}",
    "cudaRuntimeGetVersion": _VERSION,
    "cudaDriverGetVersion": _VERSION,
    "cudaStreamCreate": _HANDLE,
    "cudaStreamCreateWithFlags": _HANDLE,
    "cudaEventCreate": _HANDLE,
    "cudaEventCreateWithFlags": _HANDLE,
    "cudaStreamIsCapturing": "int {}(void* s, int* c) {{ *c = 0; return 0; }}",
    # The fields of CUDA 13's cudaDeviceProp that the provider reads: memory, shared memory, registers, warp, threads,
    # capability.
    "cudaGetDeviceProperties": (
        'int {}(char* p) {{ memset(p, 0, 1008); strcpy(p, "stand-in"); *(size_t*)(p + 288) = (size_t)8 << 30;'
        " *(size_t*)(p + 296) = 49152; *(int*)(p + 304) = 65536; *(int*)(p + 308) = 32; *(int*)(p + 320) = 1024;"
        " for (int i = 0; i < 3; i++) {{ *(int*)(p + 324 + 4 * i) = 1024; *(int*)(p + 336 + 4 * i) = 65535; }}"
        " *(int*)(p + 360) = 8; *(int*)(p + 364) = 9; *(int*)(p + 384) = 24; return 0; }}"
    ),
    "__cudaRegisterFatBinary": "void** {}(void* p) {{ static void* handle[4]; return handle; }}",
    "cudaGetErrorString": _NAME,
    "cudaGetErrorName": _NAME,
    "cublasGetStatusName": _NAME,
    "cublasGetStatusString": _NAME,
    "cublasCreate_v2": _HANDLE,
    "cublasLtCreate": _HANDLE,
}
_NOTHING = "int {}() {{ return 0; }}"
_DRIVER = ("cuTensorMapEncodeTiled",)  # the provider's symbols of the driver's library, which are unversioned
_SESSION = """
import sys, onnxruntime as ort
options = ort.SessionOptions()
options.log_severity_level, options.log_verbosity_level = 0, 1
session = ort.InferenceSession(sys.argv[1], options, providers=["CUDAExecutionProvider", "CPUExecutionProvider"])
assert session.get_providers()[0] == "CUDAExecutionProvider", "the CUDA provider did not start"
"""
_PLACED = re.compile(r"(?:Node\(s\)|All nodes) placed on \[(\w+)\]\. Number of nodes: (\d+)")
_REFUSED = re.compile(r"CUDA kernel not found in registries for Op type: (\w+) node name: (\S+)")


def stand_ins(provider: Path, folder: Path) -> None:
    """Write libraries with every function that the provider imports from CUDA's, by name and version."""
    symbols = subprocess.run(["nm", "-D", "--undefined-only", provider], capture_output=True, text=True, check=True)
    functions: dict[str, list[str]] = defaultdict(list)
    for name, _, library in (line.split()[-1].partition("@") for line in symbols.stdout.splitlines()):
        if library.startswith(("libcu", "@libcu")):
            functions[library.lstrip("@")].append(name)
    needed = subprocess.run(["objdump", "-p", provider], capture_output=True, text=True, check=True).stdout
    for library in re.findall(r"NEEDED +(libcu\S+)", needed):
        names = functions[library]
        by_version = []
        if names:
            version = folder / f"{library}.map"
            version.write_text(f"{library} {{ global: *; }};\n", encoding="utf-8")
            by_version = [f"-Wl,--version-script={version}"]
        bodies = [_SPECIAL.get(name, _NOTHING).format(name) for name in names or _DRIVER]
        source = "#include <stdlib.h>\n#include <string.h>\n" + "\n".join(bodies) + "\n"
        compiler = ["gcc", "-w", "-shared", "-fPIC", "-x", "c", "-", "-o", folder / library]
        subprocess.run([*compiler, f"-Wl,-soname,{library}", *by_version], input=source, text=True, check=True)


def placement(log: str) -> tuple[dict[str, int], list[str]]:
    """Number of nodes by provider, and the operators (with their nodes) that lack a CUDA kernel."""
    return {name: int(count) for name, count in _PLACED.findall(log)}, [" ".join(one) for one in _REFUSED.findall(log)]


def usual_graphs(bundle: Bundle) -> list[str]:
    """One graph of each shape, and the codec's graphs."""
    experts = [expert_name(0, 0)] if bundle.model.num_routed_experts else []
    return [trunk_name(0), *experts, "head", *(name for name in bundle.graphs if name.startswith("codec_"))]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--python", required=True, help="a Python that has onnxruntime-gpu")
    parser.add_argument("--graph", nargs="+", help="default: a trunk, an expert, the head, the codec")
    options = parser.parse_args()
    bundle = open_bundle(options.bundle)
    graphs = options.graph or usual_graphs(bundle)
    where = "import onnxruntime, json; print(json.dumps([onnxruntime.__path__[0], onnxruntime.__version__]))"
    told = subprocess.run([options.python, "-c", where], capture_output=True, text=True, check=True)
    package, version = json.loads(told.stdout)
    provider = Path(package) / "capi" / "libonnxruntime_providers_cuda.so"
    if not provider.exists():
        print(f"{options.python} has no onnxruntime-gpu: there is no {provider}", file=sys.stderr)
        return 1
    table = Table("graph", "precision", "CUDA", "CPU", "no CUDA kernel", title=f"onnxruntime-gpu {version}")
    with tempfile.TemporaryDirectory() as folder:
        stand_ins(provider, Path(folder))
        for graph in graphs:
            info = bundle.graph(graph)
            done = subprocess.run(
                [options.python, "-c", _SESSION, bundle.path / info.file],
                env={**os.environ, "LD_LIBRARY_PATH": folder}, capture_output=True, text=True,
            )  # fmt: skip
            placed, refused = placement(done.stdout + done.stderr)
            if done.returncode:
                reason = (done.stderr.splitlines() or ["it says nothing"])[-1]
                print(f"{graph}: no session: {reason}", file=sys.stderr)
                return 1
            counts = [str(placed.get(f"{name}ExecutionProvider", 0)) for name in ("CUDA", "CPU")]
            table.add_row(graph, info.precision, *counts, ", ".join(refused))
    Console(width=120).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
