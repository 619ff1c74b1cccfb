"""How numbers and foreign text are written in the report and in the terminal.

In: raw values and model output. Out: short strings that are safe to print. Kept apart so that the
page, the charts and the terminal write the same value the same way.
"""

MISSING = "\u2013"
_SUPERSCRIPTS = str.maketrans(
    "-0123456789", "\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"
)


def percent(share: float | None, decimals: int = 1) -> str:
    """Write a share as a percentage."""
    return MISSING if share is None else f"{100 * share:.{decimals}f}%"


def number(value: float | None) -> str:
    """Write a value with two or three digits that matter, thousands grouped."""
    if value is None:
        return MISSING
    size = abs(value)
    if float(value).is_integer() or size >= 1000:
        return f"{value:,.0f}"
    if size < 0.1:
        return f"{value:.2g}".replace("e-0", "e-")
    return f"{value:.{1 if size >= 10 else 2}f}"


def signed(text: str) -> str:
    """Give a written number a sign, with a true minus; what was rounded to zero has none."""
    size = text.removeprefix("-")
    if text == MISSING or not size.strip("0."):
        return size
    return f"\u2212{size}" if text.startswith("-") else f"+{size}"


def power_of_ten(exponent: int) -> str:
    """Write 10 to an exponent as on a logarithmic axis."""
    return f"10{str(exponent).translate(_SUPERSCRIPTS)}"


def duration(seconds: float | None) -> str:
    """Write seconds as the two largest units that matter."""
    if seconds is None:
        return MISSING
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def plural(count: int, noun: str) -> str:
    """Write a count with its noun."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def step_ranges(steps: list[int]) -> str:
    """Write ascending steps with runs joined: 1, 4-6."""
    runs: list[list[int]] = []
    for step in steps:
        if runs and step == runs[-1][-1] + 1:
            runs[-1][1:] = [step]
        else:
            runs.append([step])
    return ", ".join("\u2013".join(map(str, run)) for run in runs)
