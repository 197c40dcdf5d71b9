"""``python -m robustbench_ft`` is the rbft command."""

from robustbench_ft.cli import main

main()
