"""SMPTE timecodes: what editing programs call frames by."""

#: By nominal rate: where the real one is 1000/1001 of it, so many numbers are skipped to keep up with the clock.
_DROPPED = {30: 2, 60: 4}


def timecode(frame: int, fps: float) -> str:
    """HH:MM:SS:FF of a frame counted from 0, at the whole rate nearest to `fps`; HH:MM:SS;FF at 29.97 and 59.94.

    There, by SMPTE ST 12-1, the first two (four) numbers of every minute are left out, but for each tenth minute: no
    frame is. At other rates that are not whole, as 23.976, timecodes fall behind the clock by 3.6 s an hour. A mean
    rate within 0.03 % of 29.97 or 59.94 counts as it.
    """
    nominal = max(1, round(fps))
    dropped = _DROPPED.get(nominal, 0) if abs(fps * 1001 / 1000 / nominal - 1) < 3e-4 else 0
    tens, rest = divmod(frame, nominal * 600 - 9 * dropped)
    number = frame + dropped * (9 * tens + max(0, rest - dropped) // (nominal * 60 - dropped))
    seconds, of_second = divmod(number, nominal)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02}:{minute:02}:{second:02}{';' if dropped else ':'}{of_second:02}"
