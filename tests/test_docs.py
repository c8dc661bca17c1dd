"""What the documents say is run: their code, the docstrings' examples, the paths and names they mention."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import os
import re
import subprocess
import sys
from dataclasses import is_dataclass
from itertools import product
from pathlib import Path

import pytest

import logitscope
from gpu_device import open_device

ROOT = Path(__file__).parent.parent
PACKAGE = Path(logitscope.__file__).parent
TOP = ("rust", "python", "app", "tests", "docs", "scripts", "benches", "fuzz", ".ci", "shaders")

PAGES = {
    str(path.relative_to(ROOT)): path
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "app" / "README.md"])
}
PUBLIC_MODULES = (
    "logitscope",
    "activation",
    "bench",
    "data",
    "detection",
    "dynamics",
    "errors",
    "experiments",
    "gpu",
    "loss",
    "methods",
    "nn",
    "nn.functional",
    "optim",
    "record",
    "theory",
)

NEED_TORCH = tuple(
    f"logitscope.{name}" for name in ("_torch", "demo", "dynamics", "experiments.", "nn", "optim", "theory")
)

# Which other packages a package may import; an operation on a tensor that needs a gradient goes up to nn.functional.
BASE = {"errors", "_arrays", "_dtypes", "_native", "_torch", "__version__"}
# The dashboard reads runs; its what-if computes attention anew with the library's own operations on arrays.
DASHBOARD = {"record", "errors", "attention", "sparsemax", "entmax15"}
FLOORS = {
    "ops": BASE | {"gpu", "ops", "nn.functional", ""},
    "gpu": BASE | {"gpu", "ops"},
    "record": {"errors", "record"},
    "data": {"errors", "data"},
    "nn": BASE | {"gpu", "methods", "ops", "loss", "record", "nn"},
    "theory": BASE | {"ops", "nn", "theory"},
    "optim": BASE | {"optim"},
    "dynamics": BASE | {"ops", "record", "nn", "dynamics"},
    "experiments": BASE
    | {"", "ops", "loss", "activation", "record", "data", "nn", "optim", "dynamics", "theory", "bench"}
    | {"experiments", "gpu", "methods", "_terminal"},
}


def fenced(text):
    """Language, code and line number of the fenced blocks of a page."""
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield match[1], match[2], text[: match.start(2)].count("\n")


def modules():
    """Every Python module of the package, found without importing one."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(("logitscope", *parts)).removesuffix(".__init__")
        if not name.endswith("__main__"):
            yield name


def needs_torch(name):
    return name.startswith(NEED_TORCH)


def require_gpu(name):
    """Skip the examples of what runs on a GPU where there is none, unless one is demanded."""
    if name.startswith("logitscope.gpu"):
        open_device()


def run_examples(name, examples, capsys):
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for example in examples:
        runner.run(example)
    assert runner.summarize(verbose=False).failed == 0, f"{name}\n{capsys.readouterr().out}"


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A working directory of one's own, where runs go too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LOGITSCOPE_RUNS", raising=False)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.usefixtures("elsewhere")
def test_that_the_code_of_a_page_runs(page, capsys):
    text = PAGES[page].read_text(encoding="utf-8")
    blocks = [block for block in fenced(text) if block[0] in ("python", "pycon")]
    if any(re.search(r"torch|logitscope\.(nn|optim|dynamics|theory)", code) for _, code, _ in blocks):
        pytest.importorskip("torch")
    namespace = {"__name__": "__main__"}
    for language, code, line in blocks:
        if language == "python":
            exec(compile("\n" * line + code, PAGES[page], "exec"), namespace)
        else:
            examples = doctest.DocTestParser().get_doctest(code, namespace, page, page, line)
            examples.globs = namespace
            runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
            runner.run(examples, clear_globs=False)
            assert runner.summarize(verbose=False).failed == 0, capsys.readouterr().out


def test_that_blocks_of_code_are_found():
    text = "a\n```python\nx = 1\n```\nb\n```console\n$ y\n```\n```pycon\n>>> x\n1\n```\n"
    assert list(fenced(text)) == [
        ("python", "x = 1\n", 2),
        ("console", "$ y\n", 6),
        ("pycon", ">>> x\n1\n", 9),
    ]


@pytest.mark.parametrize("name", list(modules()))
@pytest.mark.usefixtures("elsewhere")
def test_that_the_examples_of_a_module_hold(name, capsys):
    if needs_torch(name):
        pytest.importorskip("torch")
    require_gpu(name)
    module = importlib.import_module(name)
    run_examples(name, doctest.DocTestFinder(exclude_empty=True).find(module, name), capsys)


def public_names():
    for module in PUBLIC_MODULES:
        tree = ast.parse((path_of(module)).read_text(encoding="utf-8"))
        for name in names_of(module, tree):
            yield pytest.param(module, name, id=f"{module}.{name}")


def path_of(module):
    base = PACKAGE if module == "logitscope" else PACKAGE.joinpath(*module.split("."))
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def names_of(module, tree):
    """Public names of a module as its source says them, so that none need be imported to collect the tests."""
    if module == "logitscope":
        return logitscope._FUNCTIONS
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return ast.literal_eval(node.value)
    return [node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)]


def is_plain_data(value):
    """Records and errors are shown by the example of what makes or raises them."""
    return inspect.isclass(value) and (is_dataclass(value) or issubclass(value, tuple | Exception))


@pytest.mark.parametrize(("module", "name"), list(public_names()))
def test_that_a_public_name_is_explained_by_an_example(module, name):
    if needs_torch(f"logitscope.{module}"):
        pytest.importorskip("torch")
    home = logitscope if module == "logitscope" else importlib.import_module(f"logitscope.{module}")
    value = getattr(home, name)
    assert inspect.getdoc(value), f"{module}.{name} has no docstring"
    if (inspect.isclass(value) or callable(value)) and not is_plain_data(value):
        assert ">>> " in inspect.getdoc(value), f"{module}.{name} has no example"


def expanded(text):
    """``a/{b,c}.py`` as its paths."""
    parts = [part.split(",") for part in re.split(r"[{}]", text)]
    return ["".join(choice) for choice in product(*parts)]


def mentioned(text):
    """Paths of this repository that a page names between backticks or points links to."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    for link, picture in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)|\bsrc(?:set)?=\"([^\"]+)\"", prose):
        if "://" not in (target := link or picture):
            yield target, True
    for code in re.findall(r"`([\w./{},*-]+)`", prose):
        for path in expanded(code):
            is_below_a_top = path.startswith(tuple(f"{top}/" for top in TOP))
            if is_below_a_top or re.fullmatch(r"[\w./-]+\.(py|pyi|rs|md|toml|sh)", path):
                yield path, False


@pytest.fixture(scope="module")
def files():
    """Every file and directory of the repository that was not built, relative to its root."""
    tops = [*(ROOT / top for top in TOP), *(path for path in ROOT.iterdir() if path.is_file())]
    return [path.relative_to(ROOT) for top in tops for path in (top, *top.rglob("*")) if path.exists()]


@pytest.mark.parametrize("page", PAGES)
def test_that_the_paths_on_a_page_exist(page, files):
    path = PAGES[page]
    missing = [
        name
        for name, is_link in mentioned(path.read_text(encoding="utf-8"))
        if not ((path.parent / name).exists() if is_link else any(file.match(name) for file in files))
    ]
    assert not missing


@pytest.mark.parametrize("page", PAGES)
def test_that_the_targets_of_make_on_a_page_exist(page):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(
        re.findall(r"(?:`|^\$ )make ([a-z-]+)", PAGES[page].read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert named <= set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))


def test_that_mentioned_paths_are_found():
    links = "[x](docs/y.md#z) [w](https://w.org/v.md) <img src='z.png'>".replace("'", '"')
    text = f"{links} `rust/a.rs` `app/{{a,b}}.py` `softmax.rs` `x.softmax`\n```\n`tests/a.py`\n```\n"
    assert list(mentioned(text)) == [
        ("docs/y.md", True),
        ("z.png", True),
        ("rust/a.rs", False),
        ("app/a.py", False),
        ("app/b.py", False),
        ("softmax.rs", False),
    ]


def test_that_the_stub_of_the_root_says_what_its_table_says():
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))
    functions, namespaces, constants = {}, set(), set()
    for node in stub.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            functions |= {alias.asname: node.module.rpartition(".")[2] for alias in node.names}
            assert node.module.startswith("logitscope.ops.")
        elif isinstance(node, ast.ImportFrom):
            namespaces |= {alias.asname for alias in node.names}
        elif isinstance(node, ast.AnnAssign):
            constants.add(node.target.id)
    assert functions == logitscope._FUNCTIONS
    assert namespaces == set(logitscope._NAMESPACES)
    assert {*functions, *namespaces, *constants} == set(logitscope.__all__)


@pytest.mark.parametrize("name", sorted(logitscope._NAMESPACES))
def test_that_a_namespace_of_the_root_is_there(name):
    if needs_torch(f"logitscope.{name}"):
        pytest.importorskip("torch")
    assert getattr(logitscope, name).__name__ == f"logitscope.{name}"


def test_that_the_reference_lists_the_functions_of_the_root_as_they_are():
    page = PAGES["docs/reference/functions.md"].read_text(encoding="utf-8").partition("## Namespaces")[0]
    listed = dict(re.findall(r"^\| `(\w+)(\(.*?\))?` \|", page, re.MULTILINE))
    assert set(listed) == set(logitscope._FUNCTIONS)
    for name, signature in listed.items():
        function = getattr(logitscope, name)
        if not inspect.isclass(function):
            real = inspect.signature(function)
            bare = [p.replace(annotation=inspect.Parameter.empty) for p in real.parameters.values()]
            assert signature.replace('"', "'") == str(inspect.Signature(bare)).replace('"', "'"), name


@pytest.mark.parametrize("command", ["demo", "list", "run", "dashboard", "bench", "export", "import"])
def test_that_the_reference_lists_the_options_of_a_command_as_they_are(command):
    if command == "dashboard":
        pytest.importorskip("logitscope_app")
    page = PAGES["docs/reference/command-line.md"].read_text(encoding="utf-8")
    section = page.partition(f"## `logitscope {command}")[2].partition("\n## ")[0]
    help_text = subprocess.run(
        [sys.executable, "-m", "logitscope", command, "--help"],
        env=os.environ | {"COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    listed, real = ({*re.findall(r"--[a-z][a-z-]*", text)} for text in (section, help_text))
    assert listed == real - {"--help"}


def imported(path, package):
    """What a source file imports of a package, below its root."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (
                a.name.removeprefix(package).strip(".") for a in node.names if within(a.name, package)
            )
        elif isinstance(node, ast.ImportFrom) and node.module == package:
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and within(node.module or "", package):
            yield node.module.removeprefix(f"{package}.")


def within(name, package):
    return name == package or name.startswith(f"{package}.")


@pytest.mark.parametrize("floor", FLOORS)
def test_that_a_floor_imports_only_what_is_below(floor):
    found = {name for path in (PACKAGE / floor).rglob("*.py") for name in imported(path, "logitscope")}
    assert found
    assert not {name for name in found if not any(within(name, allowed) for allowed in FLOORS[floor])}


def test_that_the_dashboard_reads_runs_and_imports_nothing_else_of_the_library():
    files = list((ROOT / "app").rglob("*.py"))
    found = {name for path in files for name in imported(path, "logitscope")}
    assert found
    assert not {name for name in found if not any(within(name, part) for part in DASHBOARD)}
    assert not {name for path in files for name in imported(path, "torch")}
