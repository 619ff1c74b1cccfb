"""The driver: the only file of zerone that meets a candidate, in a sandbox of its own.

In: one Python literal on standard input, a job. Out: one JSON line per test on descriptor 3. It
runs what a model wrote, so nothing that it says is trusted: it holds no expected value, no verdict
and no secret, and whoever takes it over can only return other values. No module imports this file.

The zygote has compiled and forked it; it runs on any Python from 3.9.
"""

import os
import sys
from json import dumps as quote

RESULTS = 3
MAX_DEPTH = 100
MAX_EXACT = 1 << 53
MAX_MESSAGE = 300


def write(text):
    data = text.encode("ascii") + b"\n"
    while data:
        data = data[os.write(RESULTS, data) :]


def encode(value, depth=0):
    """Return a value as JSON, by value: subclasses become what they extend, by its own methods."""
    if depth > MAX_DEPTH:
        raise RecursionError("the result is nested too deeply")
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        value = int.__add__(value, 0)
        return repr(value) if -MAX_EXACT < value < MAX_EXACT else '{"int":"%s"}' % hex(value)
    if isinstance(value, float):
        value = float.__add__(value, 0.0)
        text = float.__repr__(value)
        return text if text[-1] not in "nf" else '{"float":"%s"}' % text
    if isinstance(value, str):
        return quote(str.__str__(value))
    if isinstance(value, complex):
        return '{"complex":[%s,%s]}' % (encode(value.real), encode(value.imag))
    if isinstance(value, (bytes, bytearray)):
        return '{"bytes":"%s"}' % bytes(value).hex()
    return encode_container(value, depth)


def encode_container(value, depth):
    if isinstance(value, dict):
        pairs = (
            "[%s,%s]" % (encode(key, depth + 1), encode(item, depth + 1))
            for key, item in list(dict.items(value))
        )
        return '{"dict":[%s]}' % ",".join(pairs)
    for kind in (list, tuple, set, frozenset):
        if isinstance(value, kind):
            inner = ",".join([encode(item, depth + 1) for item in kind.__iter__(value)])
            return "[%s]" % inner if kind is list else '{"%s":[%s]}' % (kind.__name__, inner)
    return '{"other":%s}' % quote(type(value).__name__)


def describe(error):
    """Return type and message of an error as two JSON strings; the message runs the program's code."""
    try:
        message = str.__str__(str(error))[:MAX_MESSAGE]
    except BaseException:
        message = ""
    return "%s,%s" % (quote(type(error).__name__), quote(message))


def compiled(source):
    """Compile the program, or report why that fails and return None."""
    try:
        return compile(source, "program.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        write('["syntax",%s]' % describe(error))
        return None


def entry_of(namespace, name):
    """Return the function `name`, or the method `Class.method` of a new instance."""
    owner, _, method = name.partition(".")
    return getattr(namespace[owner](), method) if method else namespace[owner]


def run_calls(job, code):
    """Load the program once, then make every call."""
    module = type(sys)("solution")
    sys.modules["solution"] = module
    namespace = module.__dict__
    try:
        exec(code, namespace)
        exec(job["setup"], namespace)
    except BaseException as error:
        write('["load",%s]' % describe(error))
        return
    for index, item in enumerate(job["items"]):
        try:
            if job["kind"] == "call":
                value = entry_of(namespace, job["entry"])(*item)
            else:
                value = eval(item, namespace)
            line = '[%d,"value",%s]' % (index, encode(value))
        except BaseException as error:
            line = '[%d,"error",%s]' % (index, describe(error))
        write(line)


def run_program(code, given, taken):
    """Run the whole program in this forked process, with files as its standard streams."""
    os.dup2(given, 0)
    os.dup2(taken, 1)
    for name in (given, taken, RESULTS):
        os.close(name)
    sys.argv = ["program.py"]
    module = type(sys)("__main__")
    sys.modules["__main__"] = module
    exec(code, module.__dict__)


def scratch():
    return os.open("/tmp", os.O_TMPFILE | os.O_RDWR, 0o600)


def run_stdin(job, code):
    """Run the program once per test, each in a fork that ends as any Python program ends.

    Return whether this is such a fork.
    """
    room = job["output_bytes"]
    for index, text in enumerate(job["items"]):
        given, taken = scratch(), scratch()
        data = text.encode("utf-8", "surrogateescape")
        while data:
            data = data[os.write(given, data) :]
        os.lseek(given, 0, 0)
        pid = os.fork()
        if pid == 0:
            run_program(code, given, taken)
            return True
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        size = os.fstat(taken).st_size
        room -= size
        if room < 0:
            write('["output"]')
            return True
        output = os.pread(taken, size, 0).decode("utf-8", "backslashreplace")
        os.close(given)
        os.close(taken)
        write('[%d,"output",%d,%s]' % (index, status, quote(output)))
    return False


def main():
    job = eval(sys.stdin.buffer.read(), {"inf": float("inf"), "nan": float("nan")})
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    code = compiled(job["source"])
    if code is None:
        os._exit(0)
    if job["kind"] == "stdin":
        if run_stdin(job, code):
            return
    else:
        run_calls(job, code)
    write('["done"]')
    os._exit(0)


main()
