"""The arguments of the commands, and how a command ends."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn, TextIO

from meteors_c._version import __version__
from meteors_c.cli._errors import UsageError
from meteors_c.cli._said import as_options, in_one_line

__all__ = ["run"]

FAILED, WRONG, INTERRUPTED = 1, 2, 130

_MAIN_HELP = """examples:
  {prog} info scene.hdr
  {prog} methods
  {prog} explain scene.tif --model model.pt2 --method ig --target 3 --out map.tif --report out.html

exit status: 0 all went well, 1 the run failed, 2 the command line is wrong, 130 interrupted"""

_EXPLAIN_HELP = """models: a program of torch.export (.pt2), a TorchScript or ONNX file (the latter without gradients),
or package.module:factory, which is called without arguments and returns a network, a function of a batch, or
an ExplainableModel. What a file is, is told by its contents. Pickles are refused: reading one runs the code in it.

examples:
  an ENVI scene, integrated gradients of class 3, a GeoTIFF and a page:
    {prog} scene.hdr --model model.pt2 --method ig --target 3 --out map.tif --report out.html
  a classifier of patches of 11 x 11 pixels over a whole scene, two classes, block by block; a second start goes on:
    {prog} scene.tif --model model.pt --method saliency --window 11 --target 3,5 --out maps.zarr
  which of four bands matter to an ONNX model, with what is left out taking the mean spectrum:
    {prog} scene.nc --model model.onnx --method kernel-shap --by bands --groups R,G,B,N --baseline mean --out map.npz
  windows of 8 x 8 pixels:
    {prog} scene.tif --model package.module:make --method occlusion --by pixels --box 8 --box-stride 4 --out map.nc"""


class _Parser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def run(arguments: Sequence[str] | None, program: str) -> int:
    """Run a command and return its exit status; see `meteors_c.cli.main`."""
    whole = False
    try:
        given = list(sys.argv[1:] if arguments is None else arguments)
        whole = "--traceback" in given
        parsed = _parser(program).parse_args(given)
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            for category in (DeprecationWarning, FutureWarning, PendingDeprecationWarning, ResourceWarning):
                warnings.simplefilter("ignore", category)
            warnings.showwarning = _warning_in_one_line(program)
            parsed.command_function(parsed)
        sys.stdout.flush()
        return 0
    except SystemExit as error:  # argparse has printed the help or the version
        return error.code if isinstance(error.code, int) else 0
    except UsageError as error:
        return _fail(program, error, WRONG, whole)
    except KeyboardInterrupt as error:
        return _fail(program, error, INTERRUPTED, whole)
    except BrokenPipeError:  # whoever read the output has enough of it
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for the interpreter to flush at its end
        return FAILED
    except Exception as error:
        return _fail(program, error, FAILED, whole)


def _fail(program: str, error: BaseException, status: int, whole: bool) -> int:
    if whole:
        traceback.print_exception(error)
    text = "interrupted" if status == INTERRUPTED else in_one_line(error)
    print(f"{program}: error: {text}", file=sys.stderr)
    return status


def _warning_in_one_line(program: str) -> Any:
    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        print(f"{program}: warning: {as_options(' '.join(str(message).split()))}", file=sys.stderr)

    return show


# ---------------------------------------------------------------- arguments


def _parser(program: str) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=program,
        description="Attributions of hyperspectral models from the command line: which bands and which pixels led to "
        "an output.",
        epilog=_MAIN_HELP.format(prog=program),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{program} {__version__}")
    parser.add_argument("--traceback", action="store_true", help="print the whole traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    _add_explain(commands)
    info = _command(commands, "info", "what a scene is: size, bands, wavelengths, missing values, georeference", _info)
    _add_scene(info)
    methods = _command(commands, "methods", "the methods and their options", _methods)
    methods.add_argument("method", nargs="?", metavar="METHOD", help="the method whose options to list")
    return parser


def _command(commands: Any, name: str, summary: str, function: Any, epilog: str = "") -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.epilog = epilog.format(prog=command.prog) if epilog else None
    command.set_defaults(command_function=function)
    # Beside the command as well as in front of it; the default must not undo what stood in front.
    command.add_argument("--traceback", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return command


def _add_scene(command: argparse.ArgumentParser) -> None:
    command.add_argument("scene", metavar="SCENE", help="what GDAL reads (ENVI, GeoTIFF, ...), NetCDF or HDF5")
    command.add_argument(
        "--bands", metavar="LIST", help="bands to take, counted from 0, or names of regions: 0-99,110 or red,NIR"
    )
    command.add_argument("--wavelengths", metavar="LIST|FILE", help="where the scene has none or wrong ones")
    command.add_argument("--wavelength-unit", metavar="UNIT", help="nm, um, ...")
    command.add_argument("--bad-bands", choices=("drop", "keep"), help="bands that the scene marks as bad")
    command.add_argument("--nodata", type=float, metavar="NUMBER", help="the value that marks missing ones")
    command.add_argument("--variable", metavar="NAME", help="the variable of a NetCDF or HDF5 file")
    command.add_argument(
        "--scale",
        action=argparse.BooleanOptionalAction,
        help="apply the scale and offset of the file, or take its values as stored (the default, with a warning)",
    )


def _add_explain(commands: Any) -> None:
    explain = _command(commands, "explain", "explain a model's output for a scene", _explain, _EXPLAIN_HELP)
    _add_scene(explain)
    add = explain.add_argument
    add("--model", required=True, metavar="MODEL", help="a file, or package.module:factory")
    add("--method", required=True, metavar="METHOD", help="see the command methods")
    add("--target", action="append", metavar="N[,N...]", help="outputs to explain, or all; 1:0 is an index of two axes")
    add("--out", action="append", default=[], metavar="FILE", help="the map: .tif, .nc, .npz or .zarr; may be repeated")
    add("--report", metavar="FILE", help="an HTML page with map, spectra and evidence")
    add("--problem", choices=("classification", "regression", "segmentation"), help="what the model solves")
    add("--classes", type=_count, metavar="N", help="of a segmentation model, whose maps are summed up by class")
    options = explain.add_argument_group("how the method runs")
    add = options.add_argument
    add("--baseline", metavar="VALUE", help="what left out values take: a number, mean, or a spectrum (list or file)")
    add("--steps", type=_count, metavar="N", help="steps of integrated gradients")
    add("--samples", metavar="N|auto", help="samples of methods that draw; auto with lime: as many as it takes")
    add("--by", choices=("values", "pixels", "bands", "superpixels"), help="what attributions are found for")
    add("--box", metavar="N[,N...]", help="size of the windows of occlusion")
    add("--box-stride", metavar="N[,N...]", help="distance between them")
    add(
        "--groups",
        metavar="N|NAMES",
        help="bands that go together: so many groups of neighbours, or names: regions, sentinel2a, red,NIR or R,G,B,N",
    )
    add("--superpixels", type=_count, metavar="N", help="about how many")
    add("--around", metavar="METHOD", help="the method inside a noise tunnel (saliency)")
    add("--option", action="append", default=[], metavar="NAME=VALUE", help="any other argument of the method")
    scenes = explain.add_argument_group("whole scenes")
    add = scenes.add_argument
    add("--window", metavar="N[,N]", help="the model takes patches of this size: explain the one around each pixel")
    add("--stride", type=_count, metavar="N", help="explain every N-th pixel only (with --window)")
    add("--pixels", metavar="ROW,COL;...|FILE", help="these pixels only, or a mask or labels in an .npy or raster file")
    add("--reduce", choices=("centre", "window"), help="what a pixel takes from its window")
    machine = explain.add_argument_group("the machine")
    add = machine.add_argument
    add("--device", metavar="DEVICE", help="cpu, cuda, cuda:1, ...")
    add("--threads", type=_count, metavar="N", help="threads of torch")
    add("--seed", type=int, default=0, metavar="N", help="of random numbers (0)")
    add("--batch", type=_count, metavar="N", help="most samples that the model may see at once")
    add("--no-progress", action="store_true", help="show no bar, as where the output is no terminal")


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a positive whole number, not {text}")
    return number


# ---------------------------------------------------------------- commands, imported when one of them runs


def _explain(arguments: argparse.Namespace) -> None:
    from meteors_c.cli._explain import explain

    explain(arguments)


def _info(arguments: argparse.Namespace) -> None:
    from meteors_c.cli._info import info

    info(arguments)


def _methods(arguments: argparse.Namespace) -> None:
    from meteors_c.cli._methods import describe

    describe(arguments.method)
