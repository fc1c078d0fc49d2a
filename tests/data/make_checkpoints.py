"""Makes the folders in tests/data/checkpoint: tiny random checkpoints, saved and scored by their home libraries.

Each library needs another version of transformers, so each is run in an environment of its own:

    pip install torch pylate==1.2.0               && python make_checkpoints.py pylate
    pip install torch colbert-ai==0.2.22          && python make_checkpoints.py stanford
    pip install torch lightning-ir==0.0.4 transformers==4.51.3 && python make_checkpoints.py set_encoder
    (the same)                                    && python make_checkpoints.py set_encoder_extra_token
    pip install torch lightning-ir==0.0.6 transformers==4.51.3 && python make_checkpoints.py lir_dpr
    (the same, also for the other lir_*)          && python make_checkpoints.py lir_splade
    pip install torch transformers==4.57.1        && python make_checkpoints.py unicoil pyserini-1.6.0

The last is given the unpacked source of pyserini (`pip download --no-deps --no-binary :all: pyserini==1.6.0`), of which
the encoders' module alone is read: the package itself begins with a Java machine.

`scores.json` beside the weights holds that library's scores of QUERIES with DOCUMENTS.
"""

import json
import os
import string
import sys
from functools import partial
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

QUERIES = ["how do i list all buckets", "stop an instance?"]
DOCUMENTS = [
    "list buckets: returns a list of all the buckets.",
    "stop instances. this operation stops one or more instances (all of them).",
    "delete a queue",
]

WORDS = """
[PAD] [UNK] [CLS] [SEP] [MASK] [unused0] [unused1] the a of how do i list create delete bucket buckets instance
instances user table queue stop start all in with name new remove returns this operation one or more role key
""".split()  # noqa: SIM905
CHARACTERS = list(string.ascii_lowercase + string.punctuation)

FOLDER = Path(__file__).parent / "checkpoint"


def write_bert(folder: Path, kind: str) -> Path:
    """A BERT of one layer and 16 dimensions with a WordPiece vocabulary of about 130 entries."""
    import torch
    import transformers

    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    words = WORDS + [c for c in CHARACTERS if c not in WORDS] + [f"##{c}" for c in string.ascii_lowercase]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf8")
    tokenizer = transformers.BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=64)
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=64,
        initializer_range=0.4,
    )
    getattr(transformers, kind)(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_scores(folder: Path, library: str, scores: Any) -> None:
    """The library's scores, a list for each query, beside the weights."""
    content = {"library": library, "queries": QUERIES, "documents": DOCUMENTS, "scores": scores}
    (folder / "scores.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf8")


def make_pylate() -> None:
    """PyLate: a folder in the layout of sentence-transformers with a model type of its own."""
    from pylate import __version__, models

    start = write_bert(FOLDER / "start", "BertModel")
    model = models.ColBERT(str(start), embedding_size=8, query_length=12, document_length=24, device="cpu")
    folder = FOLDER / "pylate"
    model.save(str(folder))
    queries = model.encode(QUERIES, is_query=True, convert_to_tensor=True)
    documents = model.encode(DOCUMENTS, is_query=False, convert_to_tensor=True)
    scores = [[float((q @ d.T).max(dim=1).values.sum()) for d in documents] for q in queries]
    write_scores(folder, f"pylate {__version__}", scores)


def make_stanford() -> None:
    """Stanford's ColBERT: BERT with a linear layer and `artifact.metadata`."""
    from importlib.metadata import version

    import torch
    from colbert.infra import ColBERTConfig
    from colbert.modeling.checkpoint import Checkpoint
    from colbert.modeling.colbert import colbert_score

    start = write_bert(FOLDER / "start", "BertModel")
    config = ColBERTConfig(dim=8, query_maxlen=12, doc_maxlen=24, checkpoint=str(start))
    torch.manual_seed(1)
    model = Checkpoint(str(start), colbert_config=config)
    folder = FOLDER / "stanford"
    model.save(str(folder))
    metadata = json.loads((folder / "artifact.metadata").read_text(encoding="utf8"))
    for key in ("checkpoint", "root", "experiment", "name", "meta"):  # of the machine
        metadata.pop(key)
    (folder / "artifact.metadata").write_text(json.dumps(metadata, indent=1) + "\n", encoding="utf8")
    queries = model.queryFromText(QUERIES)
    scores = []
    for query in queries:
        row = []
        for document in DOCUMENTS:
            (vectors,) = model.docFromText([document], keep_dims=False)
            mask = torch.ones(1, len(vectors), dtype=torch.bool)
            row.append(float(colbert_score(query[None], vectors[None].float(), mask, config=config)))
        scores.append(row)
    write_scores(folder, f"colbert-ai {version('colbert-ai')}", scores)


def make_set_encoder(*, extra_token: bool = False) -> None:
    """Lightning IR's Set-Encoder, which lets documents see one another through [CLS] or through a token of its own."""
    from importlib.metadata import version

    import torch
    from lightning_ir import CrossEncoderModule
    from lightning_ir.models.set_encoder import SetEncoderConfig, SetEncoderModel

    start = write_bert(FOLDER / "start", "BertModel")
    torch.manual_seed(1)
    config = SetEncoderConfig(query_length=12, doc_length=24, depth=len(DOCUMENTS), add_extra_token=extra_token)
    model = SetEncoderModel.from_pretrained(str(start), config=config)
    module = CrossEncoderModule(model=model)
    model.resize_token_embeddings(len(module.tokenizer))
    folder = FOLDER / ("set_encoder_extra_token" if extra_token else "set_encoder")
    model.save_pretrained(folder)
    module.tokenizer.save_pretrained(folder)
    scores = [module.score(query, DOCUMENTS).scores.tolist() for query in QUERIES]
    write_scores(folder, f"lightning-ir {version('lightning-ir')}", scores)


def make_lightning_ir(kind: str) -> None:
    """Lightning IR's other models, of its last release; a projection of as many dimensions as the encoder."""
    import torch
    from lightning_ir import BiEncoderModule, CrossEncoderModule, models

    lengths = {"query_length": 16, "doc_length": 24}
    config, model_class = {
        "dpr": (models.DprConfig(**lengths, add_marker_tokens=True, pooling_strategy="mean"), models.DprModel),
        "splade": (models.SpladeConfig(**lengths), models.SpladeModel),
        "splade_static": (
            models.SpladeConfig(**lengths, query_weighting="static", query_expansion=False),
            models.SpladeModel,
        ),
        "col": (
            models.ColConfig(
                **lengths,
                add_marker_tokens=True,
                query_expansion=True,
                normalization_strategy="l2",
                doc_mask_scoring_tokens="punctuation",
            ),
            models.ColModel,
        ),
        "mono": (models.MonoConfig(**lengths, scoring_strategy="mono", linear_bias=True), models.MonoModel),
    }[kind]
    start = write_bert(FOLDER / "start", "BertForMaskedLM")
    torch.manual_seed(1)
    model = model_class.from_pretrained(str(start), config=config)
    module = (CrossEncoderModule if kind == "mono" else BiEncoderModule)(model=model).eval()
    model.resize_token_embeddings(len(module.tokenizer))
    for name, parameter in model.named_parameters():
        if name.startswith(("projection.bias", "linear.bias", "query_weights.")):
            torch.nn.init.uniform_(parameter)
    save_lightning_ir(model, module, kind)


def save_lightning_ir(model: Any, module: Any, kind: str) -> None:
    """Save a model of Lightning IR and its scores."""
    from importlib.metadata import version

    import torch

    folder = FOLDER / f"lir_{kind}"
    model.save_pretrained(folder)
    module.tokenizer.save_pretrained(folder)
    with torch.no_grad():
        scores = [module.score(query, DOCUMENTS).scores.tolist() for query in QUERIES]
    write_scores(folder, f"lightning-ir {version('lightning-ir')}", scores)


def make_lightning_ir_of(kind: str) -> None:
    """Lightning IR's DPR over other transformers and tokenizers, whose class it names by the transformer's type."""
    import torch
    import transformers
    from lightning_ir import BiEncoderModule, models
    from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
    from tokenizers.models import BPE, Unigram

    special = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    special |= {"cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}
    begin = list(dict.fromkeys(special.values()))
    start = FOLDER / "start"
    if kind == "modernbert":
        fast = transformers.AutoTokenizer.from_pretrained(write_bert(start, "BertModel")).backend_tokenizer
        special = {f"{word.lower()}_token": f"[{word}]" for word in ("PAD", "UNK", "CLS", "SEP", "MASK")}
    else:
        if kind == "unigram":  # as XLM-R's; multilingual-e5-small is a BERT with such a tokenizer
            words = [*begin, *(f"\u2581{word}" for word in WORDS[7:]), "\u2581", *string.ascii_lowercase]
            fast = Tokenizer(Unigram([(word, -float(i)) for i, word in enumerate(words)], unk_id=3))
            fast.normalizer, fast.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.Metaspace()
        else:
            words = [*begin, *sorted(pre_tokenizers.ByteLevel.alphabet())]
            fast = Tokenizer(BPE({word: i for i, word in enumerate(words)}, []))
            fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        ids = [("<s>", 0), ("</s>", 2)]
        fast.post_processor = processors.TemplateProcessing("<s> $A </s>", "<s> $A </s> $B </s>", special_tokens=ids)
    inputs = ["input_ids", "attention_mask"]
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=fast, model_max_length=64, model_input_names=inputs, **special
    )
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    sizes |= {"max_position_embeddings": 64, "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    more = {"global_attn_every_n_layers": 2, "local_attention": 4, "global_rope_theta": 50.0, "local_rope_theta": 20.0}
    transformer = {
        "modernbert": lambda: transformers.ModernBertConfig(**sizes | more | {"num_hidden_layers": 3}),
        "llama": lambda: transformers.LlamaConfig(**sizes, num_key_value_heads=1, rope_theta=50.0),
        "unigram": lambda: transformers.BertConfig(**sizes),
    }[kind]()
    transformers.AutoModel.from_config(transformer).save_pretrained(start)
    tokenizer.save_pretrained(start)
    config = models.DprConfig(query_length=24, doc_length=40, pooling_strategy="mean")
    model = models.DprModel.from_pretrained(str(start), config=config)
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.4)
        else:
            torch.nn.init.constant_(parameter, float(name.endswith("weight")))
    module = BiEncoderModule(model=model).eval()
    save_lightning_ir(model, module, kind)


def make_unicoil() -> None:
    """Pyserini's uniCOIL encoders."""
    import importlib.util
    from types import ModuleType

    import torch
    import transformers

    source = Path(sys.argv[2])
    bases = ModuleType("pyserini.encode")
    bases.DocumentEncoder = bases.QueryEncoder = object  # type: ignore[attr-defined]
    sys.modules |= {"pyserini": ModuleType("pyserini"), "pyserini.encode": bases}
    spec = importlib.util.spec_from_file_location("unicoil", source / "pyserini" / "encode" / "_unicoil.py")
    encoders = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(encoders)
    start = write_bert(FOLDER / "start", "BertModel")
    torch.manual_seed(1)
    model = encoders.UniCoilEncoder(transformers.BertConfig.from_pretrained(start))
    torch.nn.init.constant_(model.tok_proj.bias, 1.0)
    folder = FOLDER / "unicoil"
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(start).save_pretrained(folder)
    documents = encoders.UniCoilDocumentEncoder(str(folder), device="cpu").encode(DOCUMENTS, max_length=64)
    encoder = encoders.UniCoilQueryEncoder(str(folder))
    scores = []
    for query in QUERIES:  # without the rounding to integers that its `encode` ends with
        ids = encoder.tokenizer([query], return_tensors="pt")["input_ids"]
        (weights,) = encoder._output_to_weight_dicts(ids.numpy(), encoder.model(ids).detach().numpy())
        scores.append([sum(weight * d.get(word, 0.0) for word, weight in weights.items()) for d in documents])
    write_scores(folder, source.name, scores)


MAKE = {
    "pylate": make_pylate,
    "stanford": make_stanford,
    "set_encoder": make_set_encoder,
    "set_encoder_extra_token": partial(make_set_encoder, extra_token=True),
    "unicoil": make_unicoil,
    **{f"lir_{kind}": partial(make_lightning_ir, kind) for kind in ("dpr", "splade", "splade_static", "col", "mono")},
    **{f"lir_{kind}": partial(make_lightning_ir_of, kind) for kind in ("modernbert", "llama", "unigram")},
}

if __name__ == "__main__":
    MAKE[sys.argv[1]]()
