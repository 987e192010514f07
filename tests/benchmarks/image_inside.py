"""What ``image_check`` runs in a container, under a user that the image does not know, without a network or a device.

Prints one line of JSON a check: ``name``, ``ok``, ``detail``.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final
from unittest.mock import patch

# What a fast run imports, beside this project's own modules.
MODULES: Final = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "deepspeed", "tensorboard", "trainer.train")
ONLY_CUDA: Final = ("triton", "bitsandbytes")
TRACKERS: Final = ("wandb", "mlflow", "trackio")
CAPABILITIES: Final = (75, 80, 86, 89, 90, 100, 120)
AT_START: Final = dict(os.environ)  # libraries add to it while they are imported
HOPPER: Final = SimpleNamespace(  # as torch describes a H100
    name="NVIDIA H100 80GB HBM3",
    major=9,
    minor=0,
    multi_processor_count=132,
    total_memory=80 << 30,
    warp_size=32,
    regs_per_multiprocessor=65536,
    max_threads_per_multi_processor=2048,
    max_threads_per_block=1024,
    shared_memory_per_block=48 << 10,
    shared_memory_per_block_optin=227 << 10,
    shared_memory_per_multiprocessor=228 << 10,
    L2_cache_size=50 << 20,
    gcnArchName="",
)


def main() -> None:
    variant = sys.argv[1]
    checks: list[Callable[[], str]] = [user, packages(variant), quiet_start, trackers]
    if variant == "cuda":
        checks += [c_compiler, triton_kernel, head_kernels, layers, no_heavy_compilers]
    for check in checks:
        name = check.__name__
        if sys.argv[2:] and name not in sys.argv[2:]:
            continue
        if name == "layers" and not sys.argv[2:]:  # in a process of its own: no library has looked for a device yet
            subprocess.run([sys.executable, __file__, variant, name], env=AT_START, check=False)
            continue
        try:
            found: dict[str, Any] = {"ok": True, "detail": check()}
        except BaseException as error:
            traceback.print_exc()
            found = {"ok": False, "detail": f"{type(error).__name__}: {error}".splitlines()[0]}
        print(json.dumps({"name": name.replace("_", " "), **found}), flush=True)


def user() -> str:
    import pwd

    known = {entry.pw_uid for entry in pwd.getpwall()}
    assert os.getuid() not in known, "the image knows this user"
    return f"uid {os.getuid()}, unknown to the image; HOME is {os.environ['HOME']}"


def packages(variant: str) -> Callable[[], str]:
    def imports() -> str:
        from trainer.processes.ranks.machine import Device

        Device.here(0.9)
        for name in (*MODULES, *(ONLY_CUDA if variant == "cuda" else ())):
            importlib.import_module(name)
        import torch

        expected = variant == "cuda"
        assert (torch.version.cuda is not None) == expected, f"torch is built for CUDA {torch.version.cuda}"
        return f"{len(MODULES)} packages; torch {torch.__version__}"

    return imports


def quiet_start() -> str:
    """What the libraries print while they are imported stands on the first screen of every run's log."""
    code = "from trainer.processes.ranks import quiet\nfrom trainer.processes.ranks.machine import Device\nDevice.here(0.9)\n"
    code += "import trainer.train, peft.tuners.lora, deepspeed"
    code += "; import bitsandbytes" if sys.argv[1] == "cuda" else ""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said = (done.stdout + done.stderr).strip()
    assert not said, f"the start prints: {said[:300]}"
    return "nothing is printed by the imports of a run"


def trackers() -> str:
    """A run that reports to all of them imports them, and a run that reports to none imports none."""
    code = "import sys; from trainer.processes.ranks.importing import quickly\nwith quickly(sys.argv[1:]): import trainer.train\n"
    code += "for name in sys.argv[1:]: __import__(name)\n"
    code += f"print(*[name for name in {TRACKERS} if sys.modules.get(name)])"
    for used in ((), TRACKERS):
        done = subprocess.run([sys.executable, "-c", code, *used], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr.splitlines()[-1]
        assert done.stdout.split() == list(used), f"with report_to {list(used)} a run imports: {done.stdout}"
    return f"{', '.join(TRACKERS)}: imported for the runs that report to them"


def c_compiler() -> str:
    """Triton compiles a launcher for each kernel: a C file against Python's headers."""
    import sysconfig

    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder, "stub.c"), Path(folder, "stub.so")
        source.write_text("#include <Python.h>\nint stub(void) { return PY_MAJOR_VERSION; }\n")
        command = ["gcc", "-shared", "-fPIC", "-I", sysconfig.get_path("include"), str(source), "-o", str(made)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert made.exists(), done.stderr.splitlines()[0]
    return "gcc builds against Python's headers"


def triton_kernel() -> str:
    """Triton's own compiler and ptxas, for two architectures; no device is needed for that."""
    import triton
    from image_kernel import add
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    sizes = []
    for capability in (80, 90):
        source = ASTSource(add, {"x": "*fp32", "y": "*fp32", "n": "i32", "BLOCK": "constexpr"}, constexprs={"BLOCK": 128})
        made = triton.compile(source, target=GPUTarget("cuda", capability, 32))
        sizes.append(f"sm_{capability}: {len(made.asm['cubin'])} bytes")
    return f"triton {triton.__version__}, ptxas: {', '.join(sizes)}"


def head_kernels() -> str:
    """TRL's two kernels, as ``trainer.step.forward.head`` calls them, compiled for cards from Turing to Blackwell."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from trl.kernels import chunked_logprob as of_trl

    named = {"mm_ptr": "*bf16", "targets_ptr": "*i64", "logit_scale": "fp32", "softcap": "fp32", "inv_t": "fp32"}
    for capability in CAPABILITIES:
        for kernel in (of_trl._forward_kernel, of_trl._backward_kernel):
            constants = {name: True for name in kernel.arg_names if name.startswith("HAS_")} | {"BLOCK_SIZE": of_trl._BLOCK_SIZE}
            types = {name: named.get(name, "*fp32" if name.endswith("_ptr") else "i32") for name in kernel.arg_names}
            source = ASTSource(kernel, types | dict.fromkeys(constants, "constexpr"), constexprs=constants)
            assert triton.compile(source, target=GPUTarget("cuda", capability, 32)).asm["cubin"], f"no code for sm_{capability}"
    return f"the head's kernels: {', '.join(f'sm_{one}' for one in CAPABILITIES)}"


def layers() -> str:
    """FlexAttention with a layer's products around it, lowered by inductor for a GPU that is not here.

    The backward pass is left out: autograd asks the driver for the device.
    """
    import torch
    from torch.nn.attention.flex_attention import BlockMask, flex_attention

    def layer(x: Any, weight: Any, *blocks: Any) -> Any:
        def sees(batch: Any, head: Any, query: Any, key: Any) -> Any:
            return query >= key

        mask = BlockMask((256, 256), *blocks, BLOCK_SIZE=(128, 128), mask_mod=sees)
        q, k, v = torch.unbind((x @ weight).view(1, 256, 3, 4, 64).permute(2, 0, 3, 1, 4))  # an index would ask the driver
        return torch.nn.functional.silu(flex_attention(q, k, v, block_mask=mask)).sum()

    sources = lowered(layer, torch)
    kernels = sum(source.count("async_compile.triton(") for source in sources)
    assert any("flex_attention" in source for source in sources), "no kernel of FlexAttention"
    return f"{kernels} kernels lowered for a GPU that is not here, with FlexAttention's (forward: autograd asks the driver)"


def lowered(function: Any, torch: Any) -> list[str]:
    """The code that inductor writes for ``function``, before anything is compiled."""
    import triton
    from torch._dynamo.device_interface import CudaInterface
    from torch._inductor.graph import GraphLowering
    from torch._subclasses.fake_tensor import FakeTensorMode
    from triton.backends.compiler import GPUTarget

    sources: list[str] = []
    target = GPUTarget("cuda", 90, 32)
    driver = SimpleNamespace(get_current_target=lambda: target, get_current_device=lambda: 0, get_current_stream=lambda *args: 0)
    triton.runtime.driver.set_active(driver)

    def codegen(graph: Any) -> Any:
        code, *_ = graph.codegen()
        sources.append(getattr(code, "value", str(code)))
        return SimpleNamespace(call=lambda *args: None)

    with (
        patch.multiple(
            torch.cuda,
            device_count=lambda: 1,
            current_device=lambda: 0,
            get_device_properties=lambda *args: HOPPER,
            get_device_capability=lambda *args: (9, 0),
            is_bf16_supported=lambda *args, **kwargs: True,
            get_rng_state=lambda *args: torch.empty(16, dtype=torch.uint8, device="cpu"),
            set_rng_state=lambda *args: None,
            synchronize=lambda *args: None,
            _lazy_init=lambda: None,
        ),
        patch.object(torch.cuda, "_get_device_properties", lambda *args: HOPPER, create=True),
        patch.object(torch.accelerator, "is_available", lambda: False),
        patch.multiple(
            CudaInterface.Worker, get_device_properties=staticmethod(lambda *args: HOPPER), current_device=staticmethod(lambda: 0)
        ),
        patch.multiple(
            CudaInterface,
            is_available=staticmethod(lambda: True),
            is_bf16_supported=staticmethod(lambda *args, **kwargs: True),
        ),
        patch("torch.utils._triton.has_triton", lambda: True),
        patch("torch._inductor.scheduler.has_triton", lambda: True),
        patch.object(GraphLowering, "compile_to_module", codegen),
        FakeTensorMode(allow_non_fake_inputs=True),
    ):
        x = torch.empty(256, 256, device="cuda", dtype=torch.bfloat16)
        weight = torch.empty(256, 768, device="cuda", dtype=torch.bfloat16)
        shapes = [(1, 1, 2), (1, 1, 2, 2)] * 4  # as the trainer makes its tables
        blocks = [torch.empty(shape, device="cuda", dtype=torch.int32) for shape in shapes]
        try:
            torch.compile(function, fullgraph=True, dynamic=False)(x, weight, *blocks)
        except Exception:
            if not sources:  # else the code was written, and only its call has failed
                raise
    return sources


def no_heavy_compilers() -> str:
    import shutil

    there = [name for name in ("nvcc", "g++", "c++") if shutil.which(name)]
    assert not there, f"the image has {', '.join(there)}"
    return "no nvcc and no C++ compiler: what DeepSpeed would compile is refused before a run starts"


if __name__ == "__main__":
    main()
