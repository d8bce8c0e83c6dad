"""Stage 1a, the smallest part: columns as they come become exact ids and whole seconds, or one clear error."""

import numpy as np
import pandas as pd
from pandas.api import types

INTEGER = r"0|-?[1-9][0-9]*"  # as int would print it: "007" and "+7" are names, not numbers
NUMBER = r"-?[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?"
DECIMAL = NUMBER.replace("[0-9]+", "(?:0|[1-9][0-9]*)", 1)
TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


class DataError(ValueError):
    """A mistake in the data that the reader can mend; its text is one line and says how."""


def as_number(values: pd.Series, decimals: bool) -> pd.Series:
    """Text as int64 (or, with `decimals`, float64) where each filled cell is such a number, else as it is."""
    filled = values[values.str.strip() != ""]
    if len(filled) and filled.str.fullmatch(INTEGER).all():
        try:
            whole = filled.astype("int64")
            return whole if len(filled) == len(values) else whole.astype("Int64").reindex(values.index)
        except (OverflowError, ValueError):  # wider than int64: text, for float64 would round it
            decimals = False
    if decimals and len(filled) and filled.str.fullmatch(DECIMAL).all():
        filled = filled.astype("float64")
    return filled.reindex(values.index)


def plain_values(values: pd.Series) -> pd.Series:
    """Free a column of its wrapping: categories, objects that are all text, nullable types without nulls."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype)
    all_text = values.dtype == object and types.infer_dtype(values, skipna=True) == "string"
    if all_text or isinstance(values.dtype, pd.StringDtype):
        return values.astype("str")
    numpy_dtype = getattr(values.dtype, "numpy_dtype", None)  # of Int64 and its like
    return values if numpy_dtype is None or values.isna().any() else values.astype(numpy_dtype)


def exact_ids(values: pd.Series, label: str) -> pd.Series:
    """Ids as int64 or str, exactly as given."""
    values = plain_values(values)
    kind = types.infer_dtype(values, skipna=False)
    if kind == "string":
        return values
    if kind not in ("integer", "floating"):
        first = type(next(iter(values)))
        same = pd.Series([type(value) is first for value in values], values.index)
        require(same, values, label, f"comes after {first.__name__} ids; make all text, or all whole numbers")
        raise DataError(f"{label}: {values.name} ids are {kind}; ids are whole numbers or text")
    require_exact(values, label)
    require(values % 1 == 0, values, label, "is not a whole number; read the column as text")
    return values.astype("int64")


def whole_seconds(values: pd.Series, label: str, time_format: str | None, ticks: int) -> tuple[pd.Series, np.ndarray]:
    """Times as int64 Unix seconds, and the order of rows: as they are, or by what is finer than a second.

    `ticks` is the number of units in a second. Integers stay integers all the way.
    """
    values = plain_values(values)
    values = values.astype("str") if time_format is not None else values
    if values.dtype == "str":
        number = values.str.fullmatch(NUMBER)
        if time_format is None and number.sum() * 2 >= len(values):
            mend = "is not a number; write Unix seconds or ISO 8601 dates throughout, or pass time_format="
            require(number, values, label, mend)
            integers = as_number(values, decimals=False)
            values = integers if integers.dtype == "int64" else values.astype("float64")
        else:
            dates = pd.to_datetime(values, format=time_format or "ISO8601", utc=True, errors="coerce")
            mend = "is not a date; write ISO 8601 (2024-01-31 12:00:00) or Unix seconds, or pass time_format="
            require(dates.notna(), values, label, mend)
            values = dates
    kind = types.infer_dtype(values, skipna=False)
    if kind in ("date", "datetime", "datetime64"):
        stamps = pd.to_datetime(values, utc=True).dt.tz_convert(None).to_numpy()
        seconds, ticks = stamps.astype("datetime64[s]"), 1
        whole, rest = seconds.astype("int64"), (stamps - seconds).astype("timedelta64[ns]").astype("int64")
    elif kind in ("integer", "floating"):
        require_exact(values, label)
        whole, rest = (values // 1).astype("int64").to_numpy(), (values % 1).to_numpy()
    else:
        raise DataError(f"{label}: {values.name} values are {kind}; times are Unix seconds or dates")
    finer = rest.any() or (whole % ticks).any()
    order = np.lexsort((rest, whole)) if finer else np.arange(len(whole))
    return pd.Series(whole // ticks, values.index), order


def require_exact(values: pd.Series, label: str) -> None:
    """Refuse integers wider than int64, and floats so large that they may have been rounded."""
    least, most = -(2**63), 2**63 - 1
    if types.is_float_dtype(values):  # 2**53 itself may be 2**53 + 1, rounded
        most = 2 ** (np.finfo(str(values.dtype)).nmant + 1) - 1
        least = -most
    require(
        (values >= least) & (values <= most),
        values,
        label,
        f"cannot be exact as {values.dtype}; read the column as int64 or as text",
    )


def require(good: pd.Series, values: pd.Series, label: str, mend: str) -> None:
    """Raise for the first value that is not `good`, naming its row and column."""
    if not good.all():
        row = values.index[int(np.argmin(good.to_numpy(bool)))]
        shown = values.loc[row]
        shown = shown.item() if isinstance(shown, np.generic) else shown
        raise DataError(f"{label} row {row}: {values.name} {one_line(repr(shown))} {mend}")


def one_line(text: object) -> str:
    """Any text as one line of at most 200 characters."""
    return " ".join(str(text).split())[:200]
