"""The group of all commands, which are loaded when they are called.

Each command is a string "module:attribute", so `unimoe --help` imports nothing but click, and a command that needs
no torch runs without torch.
"""

from __future__ import annotations

import importlib

import click

from unimoe.cli.process import work_begins

_COMMANDS: dict[str, tuple[str, str]] = {
    "export": ("unimoe.cli.export:export", "Turn a checkpoint into a bundle: one ONNX graph per expert."),
    "calibrate": ("unimoe.cli.calibrate:calibrate_command", "Quantize a bundle for a target, by the data it reads."),
    "build": ("unimoe.cli.build:build", "Compile a bundle's graphs for a GPU with TensorRT-RTX or TensorRT."),
    "pack": ("unimoe.cli.pack:pack_command", "Make one file of what a device needs of a bundle."),
    "unpack": ("unimoe.cli.pack:unpack_command", "Verify such a file where it arrives, and open it."),
    "synth": ("unimoe.cli.synth:synth", "Speak or play: text in, audio file out."),
    "say-as": ("unimoe.cli.say_as:say_as", "Show what a text says: words, phonemes, durations, pauses."),
    "serve": ("unimoe.cli.serve:serve", "Serve bundles over HTTP, WebSocket and Wyoming, with a page."),
    "verify": ("unimoe.cli.verify:verify", "Compare a bundle with the oracle, a checkpoint or a bundle."),
    "profile": ("unimoe.cli.profile:profile", "See where a bundle's time goes, and how far it is from the floor."),
    "plan": ("unimoe.cli.plan:plan", "Estimate what a model will do on a machine that is not here."),
    "doctor": ("unimoe.cli.doctor:doctor", "See what this machine can run, and the next step for what cannot."),
    "inspect": ("unimoe.cli.inspect:inspect", "Show what a bundle speaks, its size by part, its engines."),
    "inputs": ("unimoe.cli.inputs:inputs", "Write real inputs of one graph in Polygraphy's format."),
    "voices": ("unimoe.cli.voices:voices", "List a bundle's voices, instruments, named tunes and limits."),
    "eval": ("unimoe.cli.evaluate:evaluate", "Measure how a bundle sounds: words, voices, notes, routing."),
    "data": ("unimoe.cli.data:data", "Make, judge, filter and encode corpora of speech and music."),
    "train": ("unimoe.cli.train:train", "Train models: a recipe with its stages, or the demo (needs torch)."),
}


class _LazyGroup(click.Group):
    """Lists commands by their one-line help and imports a command's module only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, attribute = _COMMANDS[cmd_name][0].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        work_begins()
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in _COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="unimoe", message="%(prog)s %(version)s")
def cli() -> None:
    """UniMoE-Audio on the edge: speech and music through one engine per expert."""
