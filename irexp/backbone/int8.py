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
from collections.abc import Iterator, Sequence
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

#: The names of what a transformer reads; the last one only where a tokenizer gives it.
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")

#: Texts and tokens of the batch that is traced, and of another one, which both ways must compute alike.
_TRACED, _CHECKED = (2, 8), (3, 13)

#: The least mean cosine between the token vectors of that batch in int8 and in fp32, of a classifier between all of its
#: logits; 0.99 is usual.
_LEAST_COSINE = 0.9


def check_int8(device: torch.device, setting: str = "encoding.precision") -> None:
    """Refuse int8 where it cannot be had, before anything is made.

    Args:
        device: where a model would compute.
        setting: the key that asks for int8.

    Raises:
        UserError: on a GPU, or without the packages.
    """
    if device.type != "cpu":
        raise UserError(
            f"{setting}=int8 needs a processor, and this job computes on a GPU ({device.type}); {_instead(setting)}, "
            f"or machine=cpu"
        )
    if lost := [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]:
        raise UserError(
            f"{setting}=int8 needs {' and '.join(lost)}, not installed here; install with {install_command('onnx')}, "
            f"or {_instead(setting)}"
        )


def _instead(setting: str) -> str:
    """What else lowers the time, at the end of a refusal."""
    return f"set {setting}=bfloat16 or float32"


class Int8Transformer:
    """A transformer's copy in int8, which can stand in for it; several threads may compute at the same time."""

    def __init__(
        self, encoder: PreTrainedModel, *, setting: str = "encoding.precision", has_types: bool = False
    ) -> None:
        """Export, round and open the copy: seconds, and a temporary file of the transformer's size.

        Args:
            encoder: a transformer with fp32 weights, with or without a head.
            setting: the key that asks for int8, for messages.
            has_types: whether it is called with token types.

        Raises:
            UserError: if it cannot be exported, or the copy computes something else.
        """
        start = time.perf_counter()
        self._encoder, self._setting = encoder, setting
        self._names = _INPUTS[: 2 + has_types]
        try:
            with tempfile.TemporaryDirectory() as folder, _in_evaluation(encoder):
                self._output = _Output(encoder, self._names)
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

    def _forward(self, **tokens: Any) -> Any:
        """What the transformer returns, with its last layer (or its logits) alone."""
        read = [one.name for one in self._session.get_inputs()]  # a DeBERTa ignores token types
        (values,) = self._session.run(None, {name: tokens[name].numpy() for name in read})
        return self._output.kind(**{self._output.key: torch.from_numpy(values)})

    def _compare(self) -> float:
        """The mean cosine of both ways' vectors in a padded batch of another shape than the traced one."""
        batch = _batch(self._encoder, *_CHECKED)[: len(self._names)]
        with torch.no_grad():
            expected = self._output(*batch)
        found = self._forward(**dict(zip(self._names, batch, strict=True)))[self._output.key]
        if expected.ndim == 2:  # logits of whole texts, a single one for each
            return float(torch.cosine_similarity(found.ravel(), expected.ravel(), dim=0))
        is_kept_BL = batch[1].bool()
        return float(torch.cosine_similarity(found[is_kept_BL], expected[is_kept_BL], dim=-1).mean())

    def _refusal(self, reason: str) -> UserError:
        name = type(self._encoder).__name__
        return UserError(
            f"{self._setting}=int8: a {name} cannot be computed in int8 ({reason}); {_instead(self._setting)}"
        )


class _Output(nn.Module):
    """The transformer as a function of tensors: its last layer's vectors, or its logits or their inputs."""

    def __init__(self, encoder: PreTrainedModel, names: Sequence[str]) -> None:
        super().__init__()
        self.encoder, self.names = encoder, tuple(names)
        with torch.no_grad():
            output = encoder(**dict(zip(self.names, _batch(encoder, *_TRACED), strict=False)))
        self.kind, self.key = type(output), "logits" if "logits" in output else "last_hidden_state"
        self.axes = {0: "texts", 1: "tokens"} if output[self.key].ndim == 3 else {0: "texts"}

    def forward(self, *tokens: Tensor) -> Tensor:
        more = without_cache(self.encoder)
        output: Tensor = self.encoder(**dict(zip(self.names, tokens, strict=True)), **more)[self.key]
        return output


def _batch(encoder: PreTrainedModel, texts: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, mask and token types of a batch whose first text is shorter than the others."""
    input_ids_BL = (torch.arange(texts * length) + 5).reshape(
        texts, length
    ) % encoder.config.get_text_config().vocab_size
    mask_BL = torch.ones_like(input_ids_BL)
    mask_BL[0, length // 2 :] = 0
    types_BL = torch.zeros_like(input_ids_BL)
    if getattr(encoder.config, "type_vocab_size", 0) > 1:
        types_BL[:, length // 3 :] = 1
    return input_ids_BL, mask_BL, types_BL


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
    axes = {name: {0: "texts", 1: "tokens"} for name in output.names} | {"vectors": output.axes}
    batch = _batch(output.encoder, *_TRACED)[: len(output.names)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of this exporter's age, and of values that tracing makes constants
        torch.onnx.export(
            output.eval(),
            batch,
            str(path),
            input_names=list(output.names),
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
