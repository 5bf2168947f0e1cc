"""A tiny vision-language model of random weights, of the signature that large ones have."""

import torch

PART = "{{ '<image>' if c.type == 'image' else c.text }} "
CHAT = f"{{% for m in messages %}}{{% for c in m.content %}}{PART}{{% endfor %}}{{% endfor %}}"


def save(folder, words):
    """A LLaVA of random weights that knows these words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    vocabulary = {word: i for i, word in enumerate(["[UNK]", "[PAD]", "<image>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        extra_special_tokens={"image_token": "<image>"},
    )
    size = {"height": 32, "width": 32}
    LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size), tokenizer=fast, patch_size=16,
        vision_feature_select_strategy="default", chat_template=CHAT, num_additional_image_tokens=1,
    ).save_pretrained(folder)  # fmt: skip
    small = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    torch.manual_seed(0)
    LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=CLIPVisionConfig(**small, image_size=32, patch_size=16),
            text_config=LlamaConfig(**small, vocab_size=len(vocabulary)),
            image_token_index=vocabulary["<image>"],
        )
    ).save_pretrained(folder)
    return folder
