from logitscope.record import Panel, TagInfo
from logitscope_app.models.plan import expand, plan, sibling


def _tags(**kinds):
    return [TagInfo(name.replace("__", "/"), kind, 1) for name, kind in kinds.items()]


def _dimensions(tag):
    return {"attention/map": 4, "weights": 2}.get(tag, 2)


def test_that_patterns_take_what_is_there_and_plain_tags_stay():
    names = ["grad_norm/a", "grad_norm/b", "loss"]
    assert expand(("grad_norm/*", "later"), names) == ("grad_norm/a", "grad_norm/b", "later")


def test_that_siblings_share_a_folder():
    assert sibling("attention/map", "entropy") == "attention/entropy"
    assert sibling("map", "entropy") == "entropy"


def test_that_what_has_no_panel_gets_one():
    tags = _tags(loss__train="scalar", loss__test="scalar", weights="array", steps="histogram", said="text")
    panels = plan((), tags, _dimensions)
    assert [(p.title, p.kind, p.group) for p in panels] == [
        ("Loss", "lines", "Training"),
        ("Weights", "heatmap", "More"),
        ("Steps", "histogram", "More"),
        ("Said", "text", "Text"),
    ]
    assert panels[0].tags == ("loss/train", "loss/test")


def test_that_a_map_takes_its_figures_and_tokens_with_it():
    tags = _tags(attention__map="array", attention__entropy="array", attention__tokens="text")
    (panel,) = plan((), tags, _dimensions)
    assert (panel.kind, panel.tags) == ("heads", ("attention/map",))


def test_that_declared_panels_come_first_and_claim_their_tags():
    declared = Panel("Maps", "heads", ("attention/map",), "Attention")
    tags = _tags(attention__map="array", attention__max_logit="array", attention__tokens="text", x="scalar")
    panels = plan([declared], tags, _dimensions)
    assert panels[0] is declared
    assert [panel.tags for panel in panels[1:]] == [("x",)]
