"""Prints what a program can see of how it was started, then ends in the way that its first argument names."""

import json
import sys

import helper

main = sys.modules["__main__"]


class Local:
    """Pickles as __main__.Local."""


print(
    json.dumps(
        {
            "argv": sys.argv,
            "path[0]": sys.path[0],
            "helper": helper.WORD,
            "names": sorted(name for name in vars(main) if not name.startswith("__")),
            "__file__": __file__,
            "__name__": __name__,
            "__package__": __package__,
            "__spec__": None if __spec__ is None else __spec__.name,
            "__loader__": type(__loader__).__name__,
            "own main": vars(main) is globals() and Local.__module__ == "__main__",
        }
    ),
    flush=True,
)


def end(how):
    if how == "raise":
        raise ValueError("as asked")
    if how == "chain":
        try:
            end("raise")
        except ValueError as error:
            raise KeyError("after it") from error
    if how == "hook":
        sys.excepthook = lambda kind, error, trace: print("hook", kind.__name__, trace.tb_frame.f_code.co_name)
        raise ValueError("as asked")
    if how == "interrupt":
        raise KeyboardInterrupt
    if how == "status":
        sys.exit(7)
    if how == "message":
        sys.exit("a last word")


end(sys.argv[1] if len(sys.argv) > 1 else None)
