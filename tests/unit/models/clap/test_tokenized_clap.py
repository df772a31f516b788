"""What mel and waveform families share: frozen towers on one device, texts in batches of like length."""

import torch

from mats_ray.models.clap import load_clap
from tests.pe_audio import save_pe_audio


def test_both_kinds_of_front_end_are_frozen_and_move(clap_dir, tmp_path):
    for folder in (clap_dir, save_pe_audio(tmp_path)):
        clap = load_clap(folder)

        assert clap.to("cpu") is clap
        assert clap.device == torch.device("cpu")
        assert not clap.towers.training
        assert not any(parameter.requires_grad for parameter in clap.towers.parameters())


def test_texts_of_like_length_share_a_batch_and_keep_their_order(clap_dir, monkeypatch):
    clap = load_clap(clap_dir)
    texts = ["a dog barks on the roof", "bell", "a dog barks on the roof and", "rain falls"]
    alone = torch.cat([clap.encode_text([text]) for text in texts])
    widths, embed = [], clap.towers.embed_text

    def counted(ids_BT, mask_BT):
        widths.append(ids_BT.shape)
        return embed(ids_BT, mask_BT)

    monkeypatch.setattr(clap.towers, "embed_text", counted)
    found = clap.encode_text(texts, batch_size=2)

    assert widths == [(2, 4), (2, 9)]
    torch.testing.assert_close(found, alone, atol=2e-6, rtol=0)
