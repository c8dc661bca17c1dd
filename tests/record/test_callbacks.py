"""Trainers of other libraries record into a run."""

import numpy as np
import pytest

from logitscope import record
from logitscope.errors import DeviceError

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore")


class Classifier(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = torch.nn.Linear(4, 8), torch.nn.Linear(8, 3)

    def forward(self, x=None, labels=None):
        logits = self.head(torch.tanh(self.body(x)))
        return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}


def data(count=24):
    generator = torch.Generator().manual_seed(0)
    return [{"x": torch.randn(4, generator=generator), "labels": torch.tensor(i % 3)} for i in range(count)]


def read(path):
    with record.RunReader(path) as run:
        events = [event.message for event in run.events() if event.level == "error"]
        return {tag.name: run.scalars(tag.name) for tag in run.tags() if tag.kind == "scalar"}, events


def test_that_a_trainer_of_hugging_face_is_recorded(tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path / "out"),
        max_steps=6,
        logging_steps=1,
        per_device_train_batch_size=4,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
        eval_strategy="steps",
        eval_steps=3,
    )
    with record.start("hf", path=tmp_path / "run.scope") as scope:
        callback = record.huggingface_callback(scope, every=2)
        model = Classifier()
        transformers.Trainer(
            model, arguments, train_dataset=data(), eval_dataset=data(6), callbacks=[callback]
        ).train()
    tags, errors = read(scope.path)
    assert errors == []
    assert tags["loss/train"].steps.tolist() == [1, 2, 3, 4, 5, 6]
    assert tags["trainer/mean_train_loss"].steps.tolist() == [6]  # no point of the curve
    assert np.isfinite(tags["loss/train"].values).all()
    assert tags["loss/validation"].steps.tolist() == [3, 6]
    assert tags["logits/max"].steps.tolist() == [0, 2, 4]
    assert tags["grad_norm"].steps.tolist() == [0, 2, 4]
    assert "learning_rate" in tags
    assert not model.head._forward_hooks


def test_that_a_trainer_of_lightning_is_recorded(tmp_path):
    lightning = pytest.importorskip("lightning.pytorch")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = Classifier()
            self.heads = torch.nn.MultiheadAttention(4, 2, batch_first=True)

        def training_step(self, batch, index):
            self.log("shift", float(index))
            x = self.heads(batch["x"][None], batch["x"][None], batch["x"][None])[0][0]
            return self.model(x, batch["labels"])["loss"]

        def validation_step(self, batch, index):
            self.log("val_loss", self.model(**batch)["loss"])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    loader = torch.utils.data.DataLoader(data(), batch_size=4)
    with record.start("pl", path=tmp_path / "run.scope") as scope:
        callback = record.lightning_callback(scope, every=2, logits="model.head")
        lightning.Trainer(
            max_epochs=2,
            accelerator="cpu",
            callbacks=[callback],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        ).fit(Module(), loader, loader)
    tags, errors = read(scope.path)
    assert errors == []
    assert tags["loss/train"].steps.tolist() == list(range(12))
    assert tags["trainer/shift"].values.tolist() == [*range(6)] * 2
    assert tags["logits/max"].steps.tolist() == list(range(0, 12, 2))
    assert tags["grad_norm"].steps.tolist() == list(range(0, 12, 2))
    assert tags["loss/validation"].steps.tolist() == [5, 11]  # not again at every step that follows
    # Lightning calls parts of the module only, whose attention is seen all the same.
    assert tags["attention/entropy/layer0"].steps.tolist() == list(range(0, 12, 2))


@pytest.mark.parametrize("name", ["huggingface_callback", "lightning_callback"])
def test_that_a_library_that_is_missing_is_told(tmp_path, monkeypatch, name):
    def missing(module):
        raise ModuleNotFoundError(name=module)

    monkeypatch.setattr("logitscope.record.callbacks.import_module", missing)
    with (
        record.start("x", path=tmp_path / "x.scope") as scope,
        pytest.raises(DeviceError, match="pip install"),
    ):
        getattr(record, name)(scope)
