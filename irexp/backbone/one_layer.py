"""A backbone reduced to one layer with random weights, for checks that depend on its architecture only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from irexp.backbone.backbone import Backbone

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

#: The names of the number of layers in configurations.
_COUNTS = (
    *("num_hidden_layers", "num_layers", "num_decoder_layers", "encoder_layers", "decoder_layers", "n_layer"),
    *("n_layers",),
)


class OneLayer(Backbone):
    """Another backbone's architecture, vocabulary and tokenizer with a single layer."""

    def __init__(self, whole: Backbone) -> None:
        """Reads nothing yet."""
        self.whole = whole
        self.trust_remote_code, self.dtype = whole.trust_remote_code, whole.dtype
        self.attn_implementation = whole.attn_implementation

    def location(self) -> tuple[str, str | None]:
        """The whole backbone's location."""
        return self.whole.location()

    def load_config(self) -> PretrainedConfig:
        """The whole backbone's configuration with one layer."""
        config = self.whole.load_config()
        layers = config.num_hidden_layers
        for key, value in config.to_dict().items():
            if isinstance(value, list) and len(value) == layers:  # one entry per layer, such as layer_types
                setattr(config, key, value[:1])
        for name in _COUNTS:
            if isinstance(getattr(config, name, None), int):
                setattr(config, name, 1)
        return config

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """The whole backbone's tokenizer."""
        return self.whole.load_tokenizer()

    def _load(self, loader: Any, *, redraws_head: bool = False, **options: Any) -> tuple[PreTrainedModel, list[str]]:
        """A model with random weights, so that none is missing."""
        import transformers

        loader = getattr(transformers, loader) if isinstance(loader, str) else loader
        config = self.load_config()
        for key, value in options.items():  # num_labels
            setattr(config, key, value)
        how: dict[str, Any] = {"dtype": self.dtype, "trust_remote_code": self.trust_remote_code}
        if self.attn_implementation:
            how["attn_implementation"] = self.attn_implementation
        return loader.from_config(config, **how).eval(), []
