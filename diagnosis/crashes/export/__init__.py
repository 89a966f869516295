"""A crash report in other tools' formats."""
