"""The verb `inspect`: what lies at a URL, whether it is whole, and what the images look like."""

import json
import sys
from typing import Annotated

import typer

from gan_distributed import command
from gan_distributed.errors import DataError, GanError, InputError


def inspect(
    url: Annotated[
        str,
        typer.Argument(
            help="A prepared data set, a run, one of its checkpoints, a generator.safetensors: a path, gs://, s3://."
        ),
    ],
    verify: Annotated[bool, typer.Option("--verify", help="Read every file and compare its sha256.")] = False,
    sheet: Annotated[
        str | None, typer.Option(help="PNG file to write: random images of the data set, side by side.")
    ] = None,
    num: Annotated[int, typer.Option(min=1, max=10_000, help="Images of --sheet.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Other seeds, other images of --sheet.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Tell it as JSON.")] = False,
) -> None:
    """Tell what lies at a URL: kind, sizes, classes, checkpoints; with --verify, whether its bytes are right.

    Exit code 2 where it is broken, damaged, or nothing of this program.

    Example: gan-distributed inspect data --verify --sheet real.png
    """
    from gan_distributed.data import storage
    from gan_distributed.inspecting.contact_sheet import encode_contact_sheet
    from gan_distributed.inspecting.findings import lines, look_at, unexpected
    from gan_distributed.inspecting.verifying import damaged

    try:
        finding = look_at(url)
    except GanError as error:
        if as_json:
            sys.stdout.write(json.dumps({"url": url, **unexpected(error)}) + "\n")
        raise
    if sheet is not None and finding.manifest is None:
        raise InputError(f"--sheet {sheet}: {url} is a {finding.kind}; real images are in a data set")
    wrong = damaged(finding.files, command.say) if verify else []
    if sheet is not None and finding.manifest is not None:
        storage.write(sheet, encode_contact_sheet(url, finding.manifest, num, seed))
    if as_json:
        checked = {"verified": len(finding.files), "damaged": wrong} if verify else {}
        sys.stdout.write(json.dumps({"url": url, "kind": finding.kind, **finding.told, **checked}) + "\n")
    else:
        told = [f"{finding.kind}: {url}", *lines(finding)]
        told += [f"{'verified':<16} {len(finding.files) - len(wrong)} of {len(finding.files)} files"] if verify else []
        sys.stdout.write("\n".join(told) + "\n")
    if wrong:
        raise DataError(f"{url}: {len(wrong)} of {len(finding.files)} files are damaged, first {wrong[0]}")


if __name__ == "__main__":
    command.run(inspect)
