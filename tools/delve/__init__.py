"""delve (`dlv core`): the debugger that knows goroutines. gdb shows the threads below them, and a broken stack."""
