"""TorchScript source (`code/*.py` of a torch archive): parsed, and its operators judged by an allow-list.

The TorchScript compiler knows no imports and no `open`; what is left to an attacker are operators that
touch files. Operators that are not on the list make the archive `incomplete`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from garrison.artifacts.scanners.base import Gap, Malformed, Seen, Source, critical, high, shown

MAX_SOURCE = 4 << 20  # the largest traced models stay under 1 MB a file
FIX = "ask the author for the weights as safetensors, or read the program and rebuild it"

# `___torch_mangle_3` is a module of the compiler; any other name like this leads to the interpreter.
_DUNDER = re.compile(r"__(?!_torch_mangle_\d+\Z|annotations__\Z)")
_REFUSED = frozenset({"from_file", "save", "load", "fromfile", "tofile", "load_library", "import_ir_module"})
_OPERATORS = frozenset(
    """
    abs adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool2d add add_ addmm all alpha_dropout any append
    arange argmax argmin as_tensor avg_pool1d avg_pool2d baddbmm batch_norm bitwise_and bitwise_not bmm cat ceil
    celu chunk clamp clamp_ clone concat constant_pad_nd contiguous conv1d conv2d conv3d conv_transpose1d
    conv_transpose2d copy_ cos cumsum detach device dim div div_ dropout dropout_ einsum elu embedding empty eq
    erf exp expand expand_as feature_dropout fill_ flatten floor floor_divide format full full_like gather ge
    gelu get_device glu group_norm gru gt hardsigmoid hardswish hardtanh index index_put_ index_select
    instance_norm isnan item layer_norm le leaky_relu leaky_relu_ len linear linspace log log_softmax logical_and
    logical_not logical_or logsumexp lstm lt masked_fill masked_fill_ masked_select matmul max max_pool1d
    max_pool2d mean meshgrid min mish mm mul mul_ multinomial narrow ne neg new_zeros nonzero norm normal numel
    ones ones_like pad permute pixel_shuffle pow prelu quantile rand rand_like randn randn_like reciprocal relu
    relu6 relu_ remainder repeat repeat_interleave reshape rms_norm roll round rsqrt rsub scaled_dot_product_attention
    scatter scatter_ select selu sigmoid sign silu silu_ sin size slice softmax softplus sort split
    split_with_sizes sqrt squeeze squeeze_ stack std sub sub_ sum t tan tanh tensor tile to topk transpose tril
    triu type_as unbind unflatten unfold uniform unsqueeze unsqueeze_ upsample_bilinear2d upsample_nearest2d var
    view view_as where zero_ zeros zeros_like
    """.split()  # noqa: SIM905 - a list of this length is read as words
)
_FUNCTIONS = frozenset(
    """
    annotate bool float getattr int isinstance len list max min range sorted str sum tuple unchecked_cast
    uninitialized zip enumerate abs round ord chr dict Exception
    """.split()  # noqa: SIM905 - a list of this length is read as words
)


class TorchScript:
    format = "torchscript"

    def recognises(self, head: bytes, source: Source) -> bool:  # noqa: ARG002 - the protocol
        return False

    def scan(self, source: Source) -> Iterator[Seen]:
        if source.size > MAX_SOURCE:
            yield Gap("artifact.limit.size", f"more than {MAX_SOURCE} bytes of TorchScript")
            return
        try:
            tree = ast.parse(source.read_at(0, source.size))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            message = "TorchScript source that cannot be parsed"
            raise Malformed("artifact.torchscript.syntax", message, fix=FIX) from error
        for node in ast.walk(tree):
            line = f"line {getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import | ast.ImportFrom):
                yield critical(
                    "artifact.torchscript.import", "a Python import where TorchScript belongs", line, FIX
                )
            elif isinstance(node, ast.Attribute) and _DUNDER.match(node.attr):
                yield high("artifact.torchscript.attribute", f"reaches for {shown(node.attr)}", line, FIX)
            elif isinstance(node, ast.Call):
                yield from _call(node, line)


def _call(node: ast.Call, line: str) -> Iterator[Seen]:
    callee = node.func
    if isinstance(callee, ast.Name):
        if callee.id not in _FUNCTIONS:
            yield Gap("artifact.torchscript.call", f"calls the unknown {shown(callee.id)}", line, FIX)
    elif isinstance(callee, ast.Attribute):
        path = _dotted(callee)
        if callee.attr in _REFUSED:
            yield critical("artifact.torchscript.file", f"calls {shown(path or callee.attr)}", line, FIX)
        elif path.split(".")[0] == "ops" and path.rpartition(".")[0] not in ("ops.prim", "ops.aten"):
            yield Gap("artifact.torchscript.call", f"calls the custom operator {shown(path)}", line, FIX)
        elif path.split(".")[0] in ("torch", "ops") and callee.attr not in _OPERATORS and "prim" not in path:
            yield Gap("artifact.torchscript.call", f"calls the unknown operator {shown(path)}", line, FIX)
    else:
        yield high("artifact.torchscript.call", "calls a computed value", line, FIX)


def _dotted(node: ast.expr) -> str:
    """`torch.nn.functional.relu` of an attribute chain; empty when it does not start at a name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *parts[::-1]]) if isinstance(node, ast.Name) else ""
