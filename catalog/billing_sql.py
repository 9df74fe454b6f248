"""The statements behind a bill: usage as coarse as the question allows, and its place among the tiers of its month."""

import pyarrow as pa

from pinakes.catalog.metering import VIDEO_MINUTES
from pinakes.catalog.tariffs import SEARCHES

#: What call does an operator's work, and whose tiers it walks.
MAPPED = pa.schema([(name, pa.string()) for name in ("call", "pool", "operator", "unit", "free_with")])
#: The price list of a pool.
STEPS = pa.schema(
    [("pool", pa.string()), ("step", pa.int32()), ("from", pa.int64()), ("to", pa.int64()), ("gifted", pa.bool_())]
)

#: Units and seconds are cut to nine digits: their sums do not depend on their order, as those of binary fractions do.
EXACT = "DECIMAL(28, 9)"

#: The usage, as coarse as the question allows: by the month or day, or else by the commit.
USED = """
    CREATE TEMP TABLE used AS
    WITH rows AS (
        SELECT make_timestamp(epoch_us(recorded_at)) AS "at", n, job, operator, unit, device,
               {amount}::{exact} AS units, cpu_s::{exact} AS cpu_s, gpu_s::{exact} AS gpu_s, requests
        FROM usage
        UNION ALL
        SELECT make_timestamp(epoch_us(searched_at)), 0, '({searches})', '{searches}', '{images}', NULL, 1, 0, 0, 0
        FROM searched
    )
    SELECT date_trunc('month', "at")::DATE AS month, {moment} AS moment, {n} AS n, {key} AS key, operator, unit, device,
           sum(units) AS units, sum(cpu_s) AS cpu_s, sum(gpu_s) AS gpu_s, sum(requests)::BIGINT AS requests
    FROM rows GROUP BY ALL
"""
#: Units of a month or day need no order among themselves.
MOMENT = {"month": "date_trunc('month', \"at\")::DATE", "day": '"at"::DATE', "operator": '"at"', "job": '"at"'}
KEY = {
    "month": "left(({moment})::VARCHAR, 7)",
    "day": "({moment})::VARCHAR",
    "operator": f"""CASE WHEN operator = '{SEARCHES}' THEN '({SEARCHES})'
                         WHEN unit = '{VIDEO_MINUTES}' THEN operator || ' (video)' ELSE operator END""",
    "job": "job",
}

#: `most` is how many units a call has had in its month: of its operators the larger count. Who raises it is billed. So
#: every bit of usage has its place in the month's units of its pool, and the steps of the price list that it spans.
BILLED = """
    WITH seen AS (
        SELECT month, moment, n, key, operator, call, pool, free_with, sum(units) AS units
        FROM used JOIN mapped USING (operator, unit) GROUP BY ALL
    ), counted AS (
        SELECT *, sum(units) OVER (
            PARTITION BY month, call, operator ORDER BY moment, n, key ROWS UNBOUNDED PRECEDING
        ) AS so_far FROM seen
    ), raised AS (
        SELECT *, max(so_far) OVER (
            PARTITION BY month, call ORDER BY moment, n, operator, key ROWS UNBOUNDED PRECEDING
        ) AS most FROM counted
    ), pieces AS (
        SELECT *, most - lag(most, 1, 0) OVER (PARTITION BY month, call ORDER BY moment, n, operator, key) AS billed
        FROM raised
    ), placed AS (
        SELECT *, sum(billed) OVER (
            PARTITION BY month, pool ORDER BY moment, n, call, operator, key ROWS UNBOUNDED PRECEDING
        ) AS until FROM pieces WHERE billed > 0
    ), gifts AS (
        SELECT month, call AS free_with, max(most) AS gift FROM raised GROUP BY ALL
    ), spans AS (
        SELECT placed.*, step,
               CASE WHEN gifted THEN 0 ELSE "from" + coalesce(gift, 0) END AS low,
               CASE WHEN gifted THEN coalesce(gift, 0) ELSE "to" + coalesce(gift, 0) END AS high
        FROM placed JOIN steps USING (pool) LEFT JOIN gifts USING (month, free_with)
    )
    SELECT month, key, {name} AS name, list_sort(list(DISTINCT call)) AS calls, any_value(pool) AS pool, step,
           sum(least(until, high) - greatest(until - billed, low)) AS units
    FROM spans WHERE least(until, high) > greatest(until - billed, low) GROUP BY month, key, name, step
    ORDER BY month, key, name, step
"""

#: What is kept, by the key and month.
KEPT = """
    SELECT date_trunc('month', day)::DATE AS month, {key} AS key, sum(unit_seconds) AS unit_seconds
    FROM kept GROUP BY ALL HAVING sum(unit_seconds) > 0 ORDER BY month, key
"""
