"""Cores of Rust and Go programs that panic: compiled and run in the test run."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from tests.standins import crashing

_LIMIT = 120
_RUST = """
#[inline(never)]
fn look(name: &str) -> usize {
    match name {
        "formatted" => panic!("order {} not found in shard {}", name, 1000),
        "plain" => panic!("the ledger is closed today"),
        "unwrap" => name.parse::<usize>().unwrap(),
        "index" => { let prices = vec![1usize]; prices[name.len()] }
        _ => name.len(),
    }
}
fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    println!("{}", look(&arguments[1]));
}
"""
_GO = """package main

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"
)

type Order struct{ id, price int }

type Code int

type Shelf[T any] struct{ items []T }

//go:noinline
func (s *Shelf[T]) at(index int) T { return s.items[index] }

//go:noinline
func handle(order *Order) int { return order.price }

//go:noinline
func refuse(name string) { panic(fmt.Sprintf("order %s not found", name)) }

//go:noinline
func divide(total, parts int) int { return total / parts }

//go:noinline
func fail(cause error) { panic(fmt.Errorf("stock of %d: %w", 7, cause)) }

//go:noinline
func again() {
	defer func() { panic("the clerk left, too") }()
	refuse("zz-17")
}

//go:noinline
func wait(done chan int) int { return <-done }

//go:noinline
func sink(depth int) int { return sink(depth+1) + depth }

//go:noinline
func write(prices map[string]int) {
	for {
		prices["zz-17"]++
	}
}

func deep(name string) { panic(Code(len(name))) }

func main() {
	if os.Args[1] == "deadlock" {
		fmt.Println(wait(make(chan int)))
	}
	for i := 0; i < 20; i++ {
		go func() { time.Sleep(time.Hour) }()
	}
	time.Sleep(20 * time.Millisecond)
	switch os.Args[1] {
	case "nil":
		fmt.Println(handle(nil))
	case "divide":
		fmt.Println(divide(7, len(os.Args)-2))
	case "error":
		fail(errors.New("the shelf is empty"))
	case "index":
		fmt.Println((&Shelf[int]{make([]int, 3)}).at(len(os.Args) + 3))
	case "code":
		deep("zz-17")
	case "again":
		again()
	case "overflow":
		debug.SetMaxStack(256 << 10)
		fmt.Println(sink(0))
	case "map":
		prices := map[string]int{}
		for i := 0; i < 8; i++ {
			go write(prices)
		}
		wait(nil)
	}
	refuse("zz-17")
}
"""


_CGO = """package main

/*
#include <stdlib.h>
static int price(int *order) { return *order; }
static void stop(void) { abort(); }
*/
import "C"
import (
	"fmt"
	"os"
)

//go:noinline
func look() int { return int(C.price(nil)) }

//go:noinline
func leave() { C.stop() }

func main() {
	switch os.Args[1] {
	case "fault":
		fmt.Println(look())
	case "abort":
		leave()
	}
	panic("order " + os.Args[1] + " not found")
}
"""


def require(*programs: str) -> None:
    """Skip the test, by name, when one of `programs` is missing."""
    packages = {"rustc": "rustc", "go": "golang-go", "dlv": "delve", "gcc": "gcc"}
    if missing := [name for name in programs if shutil.which(name) is None]:
        pytest.skip(
            f"{', '.join(missing)} not installed: apt-get install {' '.join(packages[name] for name in missing)}"
        )


@cache
def rust_program(*options: str) -> Path:
    """The program, stripped when `options` say so; panics abort."""
    source = crashing.made("panics.rs", lambda target: target.write_text(_RUST))
    name = f"panics{len(options)}{''.join(c for c in ''.join(options) if c.isalnum())}"
    command = ["rustc", "-C", "panic=abort", "-C", "link-arg=-Wl,--build-id", *options]
    return crashing.compiled(name, *command, str(source))


@cache
def rust_core(mode: str, executable: Path) -> Path:
    return crashing.crash(executable, [mode], crashing.folder() / f"{executable.name}-{mode}")


@cache
def go_program(*flags: str) -> Path:
    """The program, built by `go build` with `flags`."""
    return _go_build("go", _GO, flags)


@cache
def cgo_program(*flags: str) -> Path:
    """A Go program with C code in it, which needs a C compiler."""
    return _go_build("cgo", _CGO, flags)


def _go_build(name: str, source: str, flags: tuple[str, ...]) -> Path:
    environment = {**os.environ, "GOFLAGS": "-mod=mod -buildvcs=false", "GOTOOLCHAIN": "local"}
    environment["CGO_ENABLED"] = "1" if name == "cgo" else "0"

    def build(target: Path) -> None:
        (target.parent / "main.go").write_text(source)
        (target.parent / "go.mod").write_text("module shop\n\ngo 1.19\n")
        command = ["go", "build", *flags, "-o", "shop", "."]
        subprocess.run(command, check=True, timeout=_LIMIT, cwd=target.parent, env=environment)

    return crashing.made(f"{name}{''.join(c for c in ''.join(flags) if c.isalnum())}/shop", build)


def line_of(text: str) -> int:
    """The first line of the Go program that begins with `text`."""
    return next(number for number, line in enumerate(_GO.splitlines(), 1) if line.strip().startswith(text))


@cache
def go_core(mode: str, *flags: str) -> Path:
    return _go_crash(go_program(*flags), mode)


@cache
def cgo_core(mode: str, *flags: str) -> Path:
    return _go_crash(cgo_program(*flags), mode)


def _go_crash(program: Path, mode: str) -> Path:
    before = os.environ.get("GOTRACEBACK")
    os.environ["GOTRACEBACK"] = "crash"
    try:
        return crashing.crash(program, [mode], crashing.folder() / f"{program.parent.name}-{mode}")
    finally:
        if before is None:
            del os.environ["GOTRACEBACK"]
        else:
            os.environ["GOTRACEBACK"] = before
