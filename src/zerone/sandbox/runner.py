"""The driver: the only file of zerone that meets a candidate, in a sandbox of its own.

In: a job as JSON on standard input. Out: one JSON line per test on descriptor 3. It
runs what a model wrote, so nothing that it says is trusted: it holds no expected value, no verdict
and no secret, and whoever takes it over can only return other values. No module imports this file.

The zygote has compiled and forked it; it runs on any Python from 3.9.
"""

import ast
import builtins
import os
import select
import signal
import sys
from json import dumps as quote
from json import loads
from typing import Any

RESULTS = 3
MAX_DEPTH = 100
MAX_EXACT = 1 << 53
MAX_MESSAGE = 300


def write(text: str) -> None:
    """Write a line of results."""
    data = text.encode("ascii") + b"\n"
    while data:
        data = data[os.write(RESULTS, data) :]


def encode_integer(value: int) -> str:
    """Return small integers as JSON has them, large ones in hexadecimal, which has no limit of digits."""
    plain = int.__add__(value, 0)
    return repr(plain) if -MAX_EXACT < plain < MAX_EXACT else f'{{"int":"{plain:#x}"}}'


def encode_float(value: float) -> str:
    """Return finite numbers as JSON has them, others by name."""
    text = float.__repr__(float.__add__(value, 0.0))
    return text if text[-1] not in "nf" else f'{{"float":"{text}"}}'


ENCODERS: list[tuple[Any, Any]] = [
    (int, encode_integer),
    (float, encode_float),
    (str, lambda value: quote(str.__str__(value))),
    (complex, lambda value: f'{{"complex":[{encode_float(value.real)},{encode_float(value.imag)}]}}'),
    ((bytes, bytearray), lambda value: f'{{"bytes":"{bytes(value).hex()}"}}'),
]


def encode(value: Any, depth: int = 0) -> str:
    """Return a value as JSON, by value: subclasses become what they extend, by its own methods."""
    if depth > MAX_DEPTH:
        raise RecursionError("the result is nested too deeply")
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    for kind, encoder in ENCODERS:
        if isinstance(value, kind):
            return str(encoder(value))
    return encode_container(value, depth + 1)


def encode_container(value: Any, depth: int) -> str:
    """Return a container as JSON, and of any other value the name of its type."""
    if isinstance(value, dict):
        pairs = [f"[{encode(key, depth)},{encode(item, depth)}]" for key, item in list(dict.items(value))]
        return f'{{"dict":[{",".join(pairs)}]}}'
    kinds: tuple[Any, ...] = (list, tuple, set, frozenset)
    for kind in kinds:
        if isinstance(value, kind):
            inner = ",".join([encode(item, depth) for item in kind.__iter__(value)])
            return f"[{inner}]" if kind is list else f'{{"{kind.__name__}":[{inner}]}}'
    return f'{{"other":{quote(type(value).__name__)}}}'


def describe(error: BaseException) -> str:
    """Return type and message of an error as two JSON strings; the message runs the program's code."""
    try:
        message = str.__str__(str(error))[:MAX_MESSAGE]
    except BaseException:
        message = ""
    return f"{quote(type(error).__name__)},{quote(message)}"


def compiled(source: str, as_function: bool) -> Any:
    """Compile the program, or report why that fails and return None."""
    try:
        try:
            return compile(source, "program.py", "exec", dont_inherit=True)
        except SyntaxError:
            if not as_function:
                raise
            return compile(body_of_function(source), "program.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        write(f'["syntax",{describe(error)}]')
        return None


def body_of_function(source: str) -> ast.Module:
    """Return the program as a function that is called, all but its imports: a `return` may end it."""
    tree = ast.parse(source)
    imports = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    rest = [node for node in tree.body if not isinstance(node, (ast.Import, ast.ImportFrom))]
    wrapped = ast.parse("def _program_(): pass\n_program_()")
    wrapped.body[0].body = rest or wrapped.body[0].body  # type: ignore[attr-defined]
    wrapped.body[:0] = imports
    return ast.fix_missing_locations(wrapped)


def module_after(prelude: str, name: str) -> Any:
    """Return a new module in which the prelude has run."""
    module = type(sys)(name)
    exec(compile(prelude, "prelude.py", "exec", dont_inherit=True), module.__dict__)
    return module


def entry_of(namespace: dict[str, Any], name: str) -> Any:
    """Return the function `name`, or the method `Class.method` of a new instance.

    Where there is no such class, a function of the method's name is meant.
    """
    owner, _, method = name.partition(".")
    if method and owner in namespace:
        return getattr(namespace[owner](), method)
    return namespace[method or owner]


def start_clock(seconds: Any, index: int) -> None:
    """Have the process report a test as too slow and end, in so many seconds; None: stop the clock."""

    def stop(*_: Any) -> None:
        write(f'[{index},"timeout"]')
        write('["done"]')
        os._exit(0)

    if seconds is not None:
        signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds or 0)


def run_calls(job: dict[str, Any], code: Any) -> None:
    """Load the program once, then make every call."""
    module = module_after(job["prelude"], "solution")
    sys.modules["solution"] = module
    namespace = module.__dict__
    start_clock(job["test_s"], 0)
    try:
        exec(code, namespace)
        exec(job["setup"], namespace)
    except BaseException as error:
        write(f'["load",{describe(error)}]')
        return
    for index, item in enumerate(job["items"]):
        start_clock(job["test_s"], index)
        try:
            if job["kind"] == "call":
                value = entry_of(namespace, job["entry"])(*item)
            else:
                value = eval(item, namespace)
            line = f'[{index},"value",{encode(value)}]'
        except BaseException as error:
            line = f'[{index},"error",{describe(error)}]'
        start_clock(None, index)
        write(line)


def run_program(module: Any, code: Any, streams: tuple[int, int], as_function: bool) -> None:
    """Run the whole program in this forked process, with files as its standard streams."""
    for target, name in enumerate(streams):
        os.dup2(name, target)
    for name in (*streams, RESULTS):
        os.close(name)
    sys.argv = ["program.py"]
    sys.modules["__main__"] = module
    try:
        exec(code, module.__dict__)
    except SystemExit:
        if not as_function:
            raise


def exit_code(pid: int, seconds: Any) -> Any:
    """Return the exit code of a process, or None where it is killed after so many seconds."""
    handle = os.pidfd_open(pid)
    is_in_time = bool(select.select([handle], [], [], seconds)[0])
    os.close(handle)
    if not is_in_time:
        os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code if is_in_time else None


def scratch() -> int:
    """Open a file without a name."""
    return os.open("/tmp", os.O_TMPFILE | os.O_RDWR, 0o600)


def run_stdin(job: dict[str, Any], code: Any) -> bool:
    """Run the program once per test, each in a fork that ends as any Python program ends.

    Return whether this is such a fork.
    """
    room = job["output_bytes"]
    module = module_after(job["prelude"], "__main__")
    for index, text in enumerate(job["items"]):
        given, taken = scratch(), scratch()
        data = text.encode("utf-8", "surrogateescape")
        while data:
            data = data[os.write(given, data) :]
        os.lseek(given, 0, 0)
        pid = os.fork()
        if pid == 0:
            run_program(module, code, (given, taken), job["as_function"])
            return True
        status = exit_code(pid, job["test_s"])
        if status is None:
            write(f'[{index},"timeout"]')
            break
        size = os.fstat(taken).st_size
        room -= size
        if room < 0:
            write('["output"]')
            return False
        output = os.pread(taken, size, 0).decode("utf-8", "backslashreplace")
        os.close(given)
        os.close(taken)
        write(f'[{index},"output",{status},{quote(output)}]')
    write('["done"]')
    return False


def main() -> None:
    """Read the job and run it."""
    if hasattr(sys, "set_int_max_str_digits"):
        sys.set_int_max_str_digits(0)  # A program may print and read integers of any length.
    job = loads(sys.stdin.buffer.read())
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    # The module `site`, which has these two, is not loaded here; many programs end by them.
    for name in ("exit", "quit"):
        setattr(builtins, name, sys.exit)
    code = compiled(job["source"], job["as_function"])
    if code is not None and job["kind"] == "stdin":
        if run_stdin(job, code):
            return
    elif code is not None:
        run_calls(job, code)
        write('["done"]')
    os._exit(0)


main()
