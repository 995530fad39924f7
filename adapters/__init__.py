"""Modality adapters: each loads a model, turns a sample into tokens and drives the model."""

if __name__ != "namm_mm.adapters":
    raise ImportError("import it as 'namm_mm.adapters': the top-level folder is a source directory")

from namm_mm.adapters.base import ActingAdapter, Adapter, AnsweringAdapter
from namm_mm.registry.registry import Registry

ADAPTERS: Registry[type[Adapter]] = Registry(
    "adapter",
    "namm_mm.adapters",
    {
        "text": "namm_mm.adapters.text.adapter:TextAdapter",
        "llava_video": "namm_mm.adapters.video.adapter:LlavaVideoAdapter",
        "film": "namm_mm.adapters.video.film:FilmAdapter",
        "album": "namm_mm.adapters.video.album:AlbumAdapter",
        "speech": "namm_mm.adapters.speech.adapter:SpeechAdapter",
        "video": "namm_mm.adapters.video.chat:VideoAdapter",
        "image": "namm_mm.adapters.image.adapter:ImageAdapter",
        "decision_transformer": "namm_mm.adapters.control.adapter:DecisionTransformerAdapter",
    },
    bases=(AnsweringAdapter, ActingAdapter),
)
