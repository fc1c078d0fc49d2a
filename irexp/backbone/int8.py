"""A transformer in int8 on a processor: onnxruntime computes it in place of torch.

Weights are rounded to int8 once, per output channel. The inputs of each product are rounded to uint8 while a batch is
computed, over the range of their values in that batch, so that a text's vectors depend slightly on the texts beside it.
Only products with weights are rounded: embeddings, attention and normalisation stay in fp32, and so does everything on
top of the transformer, which torch computes. A processor without VNNI adds pairs of such products in 16 bits, where
large ones saturate: there weights are rounded to seven bits.

Source: dynamic quantization in https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html

Shapes: B texts, L tokens.
"""

from __future__ import annotations

import importlib.util
import logging
import platform
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from irexp.backbone.backbone import without_cache
from irexp.backbone.half import replaced_forward
from irexp.config.installation import install_command
from irexp.types import UserError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)

#: What else lowers the time of encoding, at the end of a refusal.
_INSTEAD = "set encoding.precision=bfloat16 or float32"

#: Texts and tokens of the batch that is traced, and of another one, which both ways must compute alike.
_TRACED, _CHECKED = (2, 8), (3, 13)

#: The least mean cosine between the token vectors of that batch in int8 and in fp32; 0.99 is usual.
_LEAST_COSINE = 0.9


def check_int8(device: torch.device) -> None:
    """Refuse int8 where it cannot be had, before anything is made.

    Raises:
        UserError: on a GPU, or without the packages.
    """
    if device.type != "cpu":
        raise UserError(
            f"encoding.precision=int8 needs a processor, and this job encodes on a GPU ({device.type}); {_INSTEAD}, or "
            f"machine=cpu"
        )
    if lost := [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]:
        raise UserError(
            f"encoding.precision=int8 needs {' and '.join(lost)}, not installed here; install with "
            f"{install_command('onnx')}, or {_INSTEAD}"
        )


class Int8Transformer:
    """A transformer's copy in int8, which can stand in for it; several threads may compute at the same time."""

    def __init__(self, encoder: PreTrainedModel) -> None:
        """Export, round and open the copy: seconds, and a temporary file of the transformer's size.

        Args:
            encoder: a transformer with fp32 weights, with or without a head.

        Raises:
            UserError: if it cannot be exported, or the copy computes something else.
        """
        start = time.perf_counter()
        self._encoder = encoder
        try:
            with tempfile.TemporaryDirectory() as folder, _in_evaluation(encoder):
                self._output = _Output(encoder)
                _export(self._output, Path(folder) / "float32.onnx")
                self._session = _rounded(Path(folder))
                cosine = self._compare()
        except Exception as error:  # whatever the code of an architecture raises while it is traced
            raise self._refusal((str(error).strip() or type(error).__name__).splitlines()[0]) from error
        if not cosine >= _LEAST_COSINE:
            raise self._refusal(f"a test batch has a cosine of only {cosine:.3f} with fp32's")
        seconds = time.perf_counter() - start
        log.info("%s in int8: cosine %.4f with fp32 in a test batch (%.1f s)", type(encoder).__name__, cosine, seconds)

    def in_place(self) -> AbstractContextManager[None]:
        """A context in which calls of the transformer are computed in int8."""
        return replaced_forward(self._encoder, self._forward)

    def _forward(self, *, input_ids: Tensor, attention_mask: Tensor) -> Any:
        """What the transformer returns, with its last layer (or its logits) alone."""
        inputs = {"input_ids": input_ids.numpy(), "attention_mask": attention_mask.numpy()}
        (values,) = self._session.run(None, inputs)
        return self._output.kind(**{self._output.key: torch.from_numpy(values)})

    def _compare(self) -> float:
        """The mean cosine of both ways' vectors in a padded batch of another shape than the traced one."""
        input_ids_BL, mask_BL = _batch(self._encoder, *_CHECKED)
        with torch.no_grad():
            expected = self._output(input_ids_BL, mask_BL)[mask_BL.bool()]
        found = self._forward(input_ids=input_ids_BL, attention_mask=mask_BL)[self._output.key][mask_BL.bool()]
        return float(torch.cosine_similarity(found, expected, dim=-1).mean())

    def _refusal(self, reason: str) -> UserError:
        name = type(self._encoder).__name__
        return UserError(f"encoding.precision=int8: a {name} cannot be computed in int8 ({reason}); {_INSTEAD}")


class _Output(nn.Module):
    """The transformer as a function of two tensors: its last layer's vectors, or the inputs of its logits."""

    def __init__(self, encoder: PreTrainedModel) -> None:
        super().__init__()
        self.encoder = encoder
        input_ids_BL, mask_BL = _batch(encoder, *_TRACED)
        with torch.no_grad():
            output = encoder(input_ids=input_ids_BL, attention_mask=mask_BL)
        self.kind, self.key = type(output), "logits" if "logits" in output else "last_hidden_state"

    def forward(self, input_ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        more = without_cache(self.encoder)
        output: Tensor = self.encoder(input_ids=input_ids_BL, attention_mask=mask_BL, **more)[self.key]
        return output


def _batch(encoder: PreTrainedModel, texts: int, length: int) -> tuple[Tensor, Tensor]:
    """Token ids and mask of a batch whose first text is shorter than the others."""
    input_ids_BL = (torch.arange(texts * length) + 5).reshape(
        texts, length
    ) % encoder.config.get_text_config().vocab_size
    mask_BL = torch.ones_like(input_ids_BL)
    mask_BL[0, length // 2 :] = 0
    return input_ids_BL, mask_BL


@contextmanager
def _in_evaluation(encoder: PreTrainedModel) -> Iterator[None]:
    """Without dropout, and with plain attention, which onnxruntime computes a tenth faster than torch's fused one."""
    was_training, attention = encoder.training, encoder.config._attn_implementation
    encoder.train(False)
    encoder.set_attn_implementation("eager")
    try:
        yield
    finally:
        encoder.set_attn_implementation(attention)
        encoder.train(was_training)


def _export(output: _Output, path: Path) -> None:
    """Write a transformer for any number and length of texts.

    By tracing, although torch prefers its newer exporter: that takes four times as long, needs a further package, and
    onnxruntime computes its result a fifth slower.
    """
    names = ["input_ids", "attention_mask"]
    axes = {name: {0: "texts", 1: "tokens"} for name in [*names, "vectors"]}
    batch = _batch(output.encoder, *_TRACED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of this exporter's age, and of values that tracing makes constants
        torch.onnx.export(
            output.eval(),
            batch,
            str(path),
            input_names=names,
            output_names=["vectors"],
            dynamic_axes=axes,
            dynamo=False,
        )


def _saturates() -> bool:
    """Whether this processor adds products of eight bits in 16 bits: an x86 without VNNI."""
    return platform.machine() in ("x86_64", "AMD64") and not torch.cpu._is_vnni_supported()


def _rounded(folder: Path) -> InferenceSession:
    """Round the weights of an exported transformer, and open the result with one thread per call."""
    import onnx
    from onnxruntime import InferenceSession, SessionOptions
    from onnxruntime.quantization import QuantType, quantize_dynamic

    path, level = folder / "int8.onnx", logging.root.manager.disable
    logging.disable(logging.WARNING)  # a line of the root logger for each product
    try:
        quantize_dynamic(
            folder / "float32.onnx",
            path,
            per_channel=True,
            reduce_range=_saturates(),
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul"],
        )
    finally:
        logging.disable(level)
    if not any(node.op_type == "MatMulInteger" for node in onnx.load(path, load_external_data=False).graph.node):
        raise UserError("it has no product with fp32 weights")
    options = SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return InferenceSession(path, options, providers=["CPUExecutionProvider"])
