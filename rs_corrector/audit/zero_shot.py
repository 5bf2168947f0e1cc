"""A judge without training: a CLIP's image and text models, asked in the plan's own words."""

from pathlib import Path

import torch
import torch.nn.functional as F

from ..pictures import to_pixels
from .brought import load
from .run import AuditError

#: A wording is embedded in each of these, and the embeddings averaged (Radford et al. 2021).
TEMPLATES = ("{}", "a photo of a person, {}", "a picture of someone, {}", "a portrait, {}")
GROUP_TEMPLATES = ("{}", "a photo of {}", "a picture of {}", "a portrait of {}")
SCALE = 100.0  # CLIP's own temperature


class ZeroShotJudge:
    """Which of two wordings of every attribute, and which group's words, are nearest to a picture.

    Args:
        plan: what to tell apart.
        embed_texts: function ([text]) -> (N, E).
        embed_images: function (N, 3, H, W) RGB in 0..1 -> (N, E).
        name: of the CLIP, for the report.

    Raises:
        AuditError: image and text embeddings are of different sizes.
    """

    def __init__(self, plan, embed_texts, embed_images, name):
        self.name, self.groups = f"zero-shot {name}", tuple(plan.groups)
        self.embed_texts, self.embed_images = embed_texts, embed_images
        self.group_words = torch.stack([self.embed(words, GROUP_TEMPLATES) for words in plan.groups.values()])
        self.attributes = {
            name: torch.stack([self.embed(words, TEMPLATES) for words in sides])
            for name, sides in plan.attributes.items()
        }

    def embed(self, words, templates):
        """(E,), the mean of a wording's normalised embeddings."""
        embeddings = self.embed_texts([template.format(words) for template in templates]).float().cpu()
        return F.normalize(F.normalize(embeddings, dim=1).mean(0), dim=0)

    def __call__(self, images):
        embeddings = F.normalize(self.embed_images(images).float().cpu(), dim=1)
        if embeddings.shape[1] != self.group_words.shape[1]:
            raise AuditError(
                f"expected image and text embeddings of one CLIP, got {embeddings.shape[1]} and "
                f"{self.group_words.shape[1]} numbers; load the text encoder that belongs to the vision model"
            )
        confidence, nearest = (SCALE * embeddings @ self.group_words.T).softmax(1).max(1)
        chances = {
            name: (SCALE * embeddings @ sides.T).softmax(1)[:, 0].numpy() for name, sides in self.attributes.items()
        }
        return {
            "seen": [self.groups[i] for i in nearest],
            "shows": {name: chance > 0.5 for name, chance in chances.items()},
            "features": embeddings.numpy(),
            "confidence": confidence.numpy(),
        }


def from_folder(plan, folder):
    """A judge by a CLIP that you bring, in a folder as transformers saves it: weights, tokenizer, preprocessor.

    Raises:
        AuditError: no such folder, or no CLIP in it.
        ImportError: transformers is not installed.
    """
    clip, tokenizer, prepare = load(folder, "a CLIP", "CLIPModel", "AutoTokenizer", "AutoImageProcessor")
    clip.eval()

    @torch.inference_mode()
    def embed_texts(texts):
        return _tensor(clip.get_text_features(**tokenizer(texts, padding=True, truncation=True, return_tensors="pt")))

    @torch.inference_mode()
    def embed_images(images):
        pictures = prepare([to_pixels(image) for image in images], return_tensors="pt")
        return _tensor(clip.get_image_features(**pictures))

    return ZeroShotJudge(plan, embed_texts, embed_images, f"CLIP {Path(folder).name}")


def _tensor(features):
    """transformers gave embeddings themselves before version 5, and an output that holds them since."""
    return features if isinstance(features, torch.Tensor) else features.pooler_output
