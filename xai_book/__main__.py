"""The book from the command line: `python -m xai_book --help`."""

import sys


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    asked = sys.argv[1:] if arguments is None else arguments
    # Each is imported when asked for: a machine that only measures its GPU lacks the
    # packages of the studies.
    if asked[:1] == ["gpu"]:
        from xai_book import gpu

        return gpu.main(asked[1:])
    if asked[:1] == ["grade"]:
        from xai_book import grade

        return grade.main(asked[1:])
    from xai_book.studies import command_line

    return command_line.main(asked)


if __name__ == "__main__":
    sys.exit(main())
