#!/usr/bin/env python
"""List the config keys: default, what each may be, what it means.

  python tools/list_config.py
  python tools/list_config.py MODEL.VLM
  python tools/list_config.py --markdown > docs/config.md

Exit status: 0 done, 2 no key begins so.
"""

import argparse
import sys
import textwrap
from collections.abc import Sequence

from detecture.config.page import config_page, rows_of
from detecture.config.sections.declaring import did_you_mean
from detecture.errors import ConfigError
from detecture.jobs.command_line import command_line


@command_line("list_config")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prefix", nargs="?", default="", help="beginning of the keys to list")
    parser.add_argument("--markdown", action="store_true", help="the whole page, docs/config.md")
    args = parser.parse_args(argv)
    if args.markdown:
        print(config_page(), end="")
        return 0
    rows = rows_of(args.prefix)
    if not rows:
        hint = did_you_mean(args.prefix, [name for name, _, _ in rows_of()])
        raise ConfigError(f"no key begins with {args.prefix[:200]}{hint}")
    for name, default, declared in rows:
        bounds = declared.bounds()
        print(f"{name}  {default}" + (f"  [{bounds}]" if bounds else ""))
        print(textwrap.fill(declared.meaning, 96, initial_indent="    ", subsequent_indent="    "))
    return 0


if __name__ == "__main__":
    sys.exit(main())
