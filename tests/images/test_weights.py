"""Files of weights: one state through MONAI's networks and ours, what is refused, what a run says of its file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mmnar.cohort.split import Split
from mmnar.config import TrainConfig
from mmnar.dataset.store import write_store
from mmnar.encoders.image import ImageEncoder, network_of
from mmnar.encoders.settings import Backbone, ImageConfig
from mmnar.encoders.weights import identified, load_weights
from mmnar.errors import ConfigError
from mmnar.estimators.fusion import FusionEstimator, FusionPredictor
from mmnar.estimators.registry import build_estimator, model_settings
from mmnar.estimators.storage import load_predictor, save_predictor
from mmnar.models.zero_fill import ZeroFill
from mmnar.simulation.planted import planted
from mmnar.study.plan import plan_runs
from mmnar.study.spec import study_of
from tests.populations import mixed_population

pytest.importorskip("monai")

SIDE = 64
BLOCKS = {
    "resnet10": ("basic", [1, 1, 1, 1]),
    "resnet18": ("basic", [2, 2, 2, 2]),
    "resnet34": ("basic", [3, 4, 6, 3]),
    "resnet50": ("bottleneck", [3, 4, 6, 3]),
}


def monai_resnet(backbone: str, channels: int, **changes: Any) -> nn.Module:
    """MONAI's, laid out as torchvision's, with statistics as a training would leave them."""
    from monai.networks.nets.resnet import ResNet

    block, blocks = BLOCKS[backbone]
    torch.manual_seed(0)
    settings = {"spatial_dims": 2, "conv1_t_stride": 2, "bias_downsample": False, "num_classes": 1000, **changes}
    network: nn.Module = ResNet(block, blocks, [64, 128, 256, 512], n_input_channels=channels, **settings)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, std=0.1)
    return network.eval()


def images(n: int = 2) -> Tensor:
    return torch.randint(0, 256, (n, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def loaded(file: Path, backbone: Backbone, channels: int = 3, **changes: Any) -> ImageEncoder:
    torch.manual_seed(5)
    config = ImageConfig(backbone, str(file), channels=channels, **{"norm": "frozen", "augment": "none"} | changes)
    encoder = ImageEncoder(SIDE, 4, config=config)
    load_weights(encoder)
    return encoder


@pytest.mark.parametrize("backbone", ["resnet18", "resnet34", "resnet50"])
def test_one_state_file_gives_monais_maps(tmp_path: Path, backbone: Backbone) -> None:
    network = monai_resnet(backbone, 3)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    encoder = loaded(tmp_path / "weights.pth", backbone).train()  # in training, too: nothing of the batch is used
    inputs = encoder.inputs(images())
    with torch.no_grad():
        x = network.maxpool(network.act(network.bn1(network.conv1(inputs))))  # type: ignore[operator]
        for number, ours in enumerate(encoder.stages(images()), start=1):
            x = getattr(network, f"layer{number}")(x)
            torch.testing.assert_close(ours, x, rtol=1e-5, atol=1e-5)
        features = network.avgpool(x).flatten(1)  # type: ignore[operator]
        torch.testing.assert_close(encoder.vectors(images()), encoder.resnet.fc(features), rtol=1e-5, atol=1e-5)
    assert all(name.endswith(("running_mean", "running_var")) for name, _ in encoder.named_buffers())


@pytest.mark.parametrize("backbone", BLOCKS)
def test_a_seed_gives_the_weights_that_monai_starts_from(backbone: Backbone) -> None:
    from monai.networks.nets.resnet import ResNet

    torch.manual_seed(3)
    ours = network_of(ImageConfig(backbone), 5).state_dict()
    torch.manual_seed(3)
    block, blocks = BLOCKS[backbone]
    theirs = ResNet(
        *(block, blocks, [64, 128, 256, 512]),
        spatial_dims=2,
        n_input_channels=1,
        conv1_t_stride=2,
        bias_downsample=False,
        num_classes=5,
    ).state_dict()
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    theirs = {name: value for name, value in theirs.items() if not name.endswith(statistics)}
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_statistics_stay_and_all_else_is_trained(tmp_path: Path) -> None:
    torch.save(monai_resnet("resnet10", 3).state_dict(), tmp_path / "weights.pt")
    encoder = loaded(tmp_path / "weights.pt", "resnet10").train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    optimizer = torch.optim.AdamW(encoder.backbone.parameters(), lr=1e-2)
    encoder.vectors(images()).square().sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, before[name]) == name.endswith(("running_mean", "running_var", "time.weight")), name


def test_a_frozen_backbone_stays_and_is_encoded_in_parts(tmp_path: Path) -> None:
    torch.save(monai_resnet("resnet10", 1).state_dict(), tmp_path / "weights.pt")
    encoder = loaded(tmp_path / "weights.pt", "resnet10", 1, frozen=True).train()
    assert {n for n, p in encoder.backbone.named_parameters() if p.requires_grad} == {"fc.weight", "fc.bias"}
    seen: list[int] = []
    encoder.backbone.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    encoder.vectors(images(66)).sum().backward()  # type: ignore[no-untyped-call]
    assert seen == [64, 2]
    assert encoder.resnet.fc.weight.grad is not None
    assert encoder.resnet.conv1.weight.grad is None


@pytest.mark.parametrize("form", [".safetensors", ".pt", "wrapped"])
def test_weights_of_our_own_and_how_they_are_kept(tmp_path: Path, form: str) -> None:
    torch.manual_seed(0)
    trained = ImageEncoder(SIDE, 9, config=ImageConfig("tiny")).backbone.state_dict()
    file = tmp_path / f"weights{'.pt' if form == 'wrapped' else form}"
    if form == ".safetensors":
        save_file(trained, file)
    else:
        wrapped = {"epoch": 3, "state_dict": {f"module.{name}": value for name, value in trained.items()}}
        torch.save(wrapped if form == "wrapped" else trained, file)
    fresh = loaded(file, "tiny", 1, norm="group").backbone.state_dict()
    for name, value in fresh.items():
        if not name.startswith("fc."):
            assert torch.equal(value, trained[name]), name
    assert fresh["fc.weight"].shape == (4, 64)


def test_densenet_in_both_ways_of_naming(tmp_path: Path) -> None:
    from monai.networks.nets.densenet import DenseNet

    torch.manual_seed(0)
    network = DenseNet(2, 3, 7, block_config=(6, 12, 24, 16)).eval()
    state = network.state_dict()
    torch.save(state, tmp_path / "monai.pt")
    theirs = {n.replace(".layers.", ".").replace("class_layers.out.", "classifier."): v for n, v in state.items()}
    assert theirs.keys().isdisjoint({n for n in state if ".layers." in n})
    torch.save(theirs, tmp_path / "torchvision.pt")
    results = [loaded(tmp_path / f"{whose}.pt", "densenet121") for whose in ("monai", "torchvision")]
    with torch.no_grad():
        features = [network.features(encoder.inputs(images())) for encoder in results]
        ours = [encoder.backbone.features(encoder.inputs(images())) for encoder in results]  # type: ignore[operator]
    for got in ours:
        torch.testing.assert_close(got, features[0], rtol=1e-5, atol=1e-5)


class Code:
    """Unpickling it makes a folder: code in a file of weights."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.folder,)


def refusal(file: Path, backbone: Backbone = "resnet18", channels: int = 1, **changes: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(file, backbone, channels, **changes)
    said = str(caught.value)
    assert "\n" not in said
    assert str(file.parent) not in said
    return said


def test_what_is_no_file_of_weights_is_refused_and_never_run(tmp_path: Path) -> None:
    assert "a file" in refusal(tmp_path / "absent.pt")
    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "text.safetensors").write_text("hello")
    torch.save({"conv1.weight": Code(tmp_path / "trace")}, tmp_path / "pickle.pt")
    torch.save(monai_resnet("resnet10", 1), tmp_path / "module.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"conv1.weight": 3}, tmp_path / "numbers.pt")
    torch.save({}, tmp_path / "empty.pt")
    for name in ("text.pt", "text.safetensors", "pickle.pt", "module.pt", "list.pt", "numbers.pt", "empty.pt"):
        assert "state dict" in refusal(tmp_path / name), name
    assert not (tmp_path / "trace").exists()


def test_weights_of_another_network_are_refused_naming_both(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    torch.save(monai_resnet("resnet18", 3).state_dict(), file)
    there = "resnet18 of 3 channels with batch normalisation"
    for backbone, channels, norm, here in (
        ("resnet34", 3, "frozen", "resnet34 of 3 channels with batch normalisation"),
        ("resnet50", 3, "frozen", "resnet50 of 3 channels with batch normalisation"),
        ("tiny", 3, "frozen", "tiny of 3 channels with batch normalisation"),
        ("densenet121", 3, "frozen", "densenet121 of 3 channels with batch normalisation"),
        ("resnet18", 1, "frozen", "resnet18 of 1 channel with batch normalisation"),
        ("resnet18", 3, "group", "resnet18 of 3 channels with group normalisation"),
    ):
        said = refusal(file, backbone, channels, norm=norm)  # type: ignore[arg-type]
        assert here in said, backbone
        assert there in said, backbone
    torch.save(ImageEncoder(SIDE, 4).backbone.state_dict(), file)
    assert "resnet10 of 1 channel with group normalisation" in refusal(file)
    torch.save(network_of(ImageConfig("densenet121"), 2).state_dict(), file)
    assert "densenet121 of 1 channel with group normalisation" in refusal(file)
    # the same network by its blocks, but not by its arrays
    torch.save(monai_resnet("resnet18", 1, bias_downsample=True).state_dict(), file)
    assert "downsample.0.bias" in refusal(file)
    wide = monai_resnet("resnet18", 1, widen_factor=2).state_dict()
    torch.save(wide, file)
    assert "another ResNet of 1 channel" in refusal(file)
    torch.save({"weight": torch.zeros(3)}, file)
    assert "another network" in refusal(file)


def test_what_needs_a_file_is_refused_without_one() -> None:
    for key in ({"norm": "frozen"}, {"frozen": True}):
        with pytest.raises(ConfigError, match=r"model\.image\.weights"):
            ImageConfig("resnet18", **key)  # type: ignore[arg-type]


def _tiny(file: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    torch.save(network_of(ImageConfig("tiny"), 3).state_dict(), file)
    return file


def test_a_file_is_named_by_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    one, same = _tiny(tmp_path / "w.pt"), tmp_path / "elsewhere" / "w.pt"
    same.write_bytes(one.read_bytes())
    other = _tiny(tmp_path / "elsewhere" / "other.pt", 1)

    def settings(file: Path) -> dict[str, Any]:
        return model_settings(
            build_estimator("zero-fill", {"image": {"weights": str(file), "backbone": "tiny"}}, TrainConfig())
        )

    said = settings(one)["image"]["weights"]
    assert said == f"w.pt sha256:{hashlib.sha256(one.read_bytes()).hexdigest()}"
    assert settings(same) == settings(one)
    assert settings(other) != settings(one)
    _tiny(one, 2)  # changed where it lies
    assert settings(one)["image"]["weights"] != said
    with pytest.raises(ConfigError, match="a file"):
        settings(tmp_path / "absent.pt")
    torch.save(monai_resnet("resnet10", 3).state_dict(), other)
    with pytest.raises(ConfigError, match="resnet10 of 3 channels"):
        settings(other)
    assert identified(ZeroFill.Config()) == ZeroFill.Config()


def test_the_content_of_the_file_is_part_of_a_runs_hash(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", planted("single", 60))
    (tmp_path / "elsewhere").mkdir()
    one, other = _tiny(tmp_path / "w.pt"), _tiny(tmp_path / "elsewhere" / "w.pt", 1)

    def hashes(**row: str) -> set[str]:
        raw = {
            "title": "One row",
            "data": {"planted": {"store": str(store)}},
            "rows": {"zero-fill": {"set": {"model.image.backbone": "tiny", **row}}},
            "folds": 2,
        }
        return set(plan_runs(study_of(raw), {"planted": store}, tmp_path / "s", {}).jobs)

    key = "model.image.weights"
    first, second = hashes(**{key: str(one)}), hashes(**{key: str(other)})
    assert len(first | second | hashes()) == 6
    other.write_bytes(one.read_bytes())  # the same content elsewhere is the same run
    assert hashes(**{key: str(other)}) == first


def test_a_fit_starts_from_the_file_and_what_is_saved_needs_it_no_more(tmp_path: Path) -> None:
    file = _tiny(tmp_path / "w.pt")
    state = torch.load(file, weights_only=True)
    config = ZeroFill.Config(width=8, image=ImageConfig("tiny", str(file), frozen=True))
    train = TrainConfig(min_steps=0, max_epochs=1, batch_size=32)
    data = mixed_population(60)
    split = Split(tune=0.3, test=0.1)
    fitted = FusionEstimator("zero-fill", config, train).fit(data.fold(split, "train"), data.fold(split, "tune"))
    kept = fitted.network.state_dict()
    backbone = {n.split("backbone.")[1]: v for n, v in kept.items() if "backbone." in n and "fc." not in n}
    assert backbone.keys() == {n for n in state if not n.startswith("fc.")}
    assert all(torch.equal(value, state[name]) for name, value in backbone.items())
    file.unlink()
    save_predictor(fitted, tmp_path / "model")
    again = load_predictor(tmp_path / "model")
    assert isinstance(again, FusionPredictor)
    test = data.fold(split, "test")
    assert (again.predict_proba(test) == fitted.predict_proba(test)).all()
    saved = "".join(f.read_text() for f in (tmp_path / "model").rglob("*.json"))
    assert "w.pt sha256:" in saved
    assert str(tmp_path) not in saved
    save_predictor(again, tmp_path / "again")
