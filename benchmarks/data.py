"""What the finders of `data check` find of what was planted, and what a million rows take.

    python -m benchmarks.data                  # precision and recall, 20,000 rows
    python -m benchmarks.data --rows 1000000   # memory and time of check and clean
    python -m benchmarks.data --datasketch     # signatures beside datasketch's, 5,000 texts

The rows are made here, half English and half Chinese, from one seed; a third of them are of crowds
that differ in one word. Of each kind 200 are planted, and beside them 200 rows that only look like
personal data (order numbers, versions, prices, dates). It fails where a finder finds less than
LEAST of its kind, or where check or clean takes more than MOST bytes.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.data_cases import PLANTED, decoys, planted, rows_of_a_shop
from ollama_ft.kinds.formats import read_rows
from ollama_ft.kinds.leaks import WAYS, Asked
from ollama_ft.kinds.near import signatures
from ollama_ft.kinds.personal import find
from ollama_ft.kinds.scan import DUPLICATE, REPLACED, Place, Scan

ROWS = 20_000
SEED = 7
MOST = 2 * 10**9
LEAST = 0.9  # recall and precision of every finder but the one by meaning


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, default=0)
    arguments.add_argument("--datasketch", action="store_true")
    arguments.add_argument("--one", choices=["check", "clean"], help=argparse.SUPPRESS)
    arguments.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.one:
        measure_one(given.one, given.file)
    elif given.datasketch:
        beside_datasketch()
    elif given.rows:
        sys.exit(many(given.rows))
    else:
        sys.exit(finders())


def finders() -> int:
    """Print precision and recall of each finder; 1 if one is below LEAST."""
    chance = random.Random(SEED)
    plants = planted(chance)
    plain = ROWS - sum(len(rows) for rows in plants.rows.values())
    made = [("", row) for row in decoys(chance)]
    made += [("", row) for row in rows_of_a_shop(chance, plain - len(made))]
    made += [(kind, row) for kind, rows in plants.rows.items() for row in rows]
    chance.shuffle(made)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "planted.jsonl"
        file.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for _, r in made))
        rows = [row for _, row in read_rows(file)]
    scan = Scan()
    for number, row in enumerate(rows, start=1):
        scan.add(Place(file="", number=number), row)
    at = {kind: {i for i, (k, _) in enumerate(made) if k == kind} for kind in plants.rows}
    leaks = Asked(plants.suite).leaks(rows)
    personal = {i for i, r in enumerate(rows) if any(find(m.content) for m in r.messages)}
    pairs = {
        "duplicate": [(i, scan.twin[i]) for i in scan.with_state(DUPLICATE)],
        "near": list(scan.near()),
        "conflict": [(i, scan.twin[i]) for i in scan.with_state(REPLACED)],
    }
    print(f"{len(rows):,} rows, {PLANTED} of each kind planted, half English, half Chinese\n")
    print(f"{'FINDER':<24}{'FOUND':>7}{'RIGHT':>7}{'PRECISION':>11}{'RECALL':>8}")
    fine = True
    for kind, found in pairs.items():
        # Whichever of the two came later is the one that is told; each pair has one planted row.
        right = [pair for pair in found if at[kind] & set(pair)]
        hit = {i for pair in right for i in pair} & at[kind]
        fine &= line(kind, len(found), len(right), len(hit), len(at[kind]))
    right = personal & at["personal"]
    fine &= line("personal", len(personal), len(right), len(right), len(at["personal"]))
    told = {leak.row for leak in leaks}
    leaking = set().union(*(at[f"leak: {way}"] for way in WAYS if way != "meaning"))
    fine &= line("leak", len(told), len(told & leaking), len(told & leaking), len(leaking))
    for way in ("equal", "near", "8-gram"):
        planted_here = at[f"leak: {way}"]
        found_here = {leak.row for leak in leaks if leak.way == way}
        hit = found_here & planted_here
        line(f"  by {way}", len(found_here), len(found_here & leaking), len(hit), len(planted_here))
    return 0 if fine else 1


def line(name: str, found: int, right: int, hit: int, there: int) -> bool:
    """Print one finder; whether it is good enough."""
    precision, recall = right / max(1, found), hit / max(1, there)
    print(f"{name:<24}{found:>7}{right:>7}{precision:>11.1%}{recall:>8.1%}")
    return min(precision, recall) >= LEAST


def many(count: int) -> int:
    """Print what check and clean take on a file of `count` rows, each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "many.jsonl"
        with file.open("w") as out:
            for row in rows_of_a_shop(random.Random(SEED), count):
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
        size = file.stat().st_size / 1e6
        print(f"{count:,} rows, {size:.0f} MB of JSONL, half English, half Chinese\n")
        print(f"{'COMMAND':<10}{'PEAK MEMORY':>13}{'CPU SECONDS':>13}{'SECONDS':>9}", flush=True)
        most = 0
        for command in ("check", "clean"):
            call = [sys.executable, "-m", "benchmarks.data", "--one", command, "--file", str(file)]
            done = subprocess.run(call, capture_output=True, text=True, check=True)
            figures = json.loads(done.stdout.splitlines()[-1])
            most = max(most, figures["memory"])
            print(
                f"{command:<10}{figures['memory'] / 1e6:>10.0f} MB{figures['cpu']:>13.0f}"
                f"{figures['wall']:>9.0f}",
                flush=True,
            )
    return 0 if most <= MOST else 1


def measure_one(command: str, file: Path) -> None:
    """Run check or clean on a file; print its peak memory and its time as JSON."""
    from ollama_ft.kinds.cleaning import clean_files
    from ollama_ft.kinds.report import check

    wall, cpu = time.perf_counter(), time.process_time()
    if command == "check":
        check([file])
    else:
        clean_files([file], file.with_suffix(".clean.jsonl"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # kilobytes on Linux
    figures = {"memory": peak, "cpu": time.process_time() - cpu}
    print(json.dumps(figures | {"wall": time.perf_counter() - wall}))


def beside_datasketch() -> None:
    """Print how long signatures of the same texts take here and in datasketch."""
    from datasketch import MinHash

    from ollama_ft.kinds.near import BANDS, ROWS, plain

    texts = [plain(row["question"]) for row in rows_of_a_shop(random.Random(SEED), 5_000)]
    signatures(texts[:10])
    start = time.process_time()
    signatures(texts)
    ours = time.process_time() - start
    start = time.process_time()
    for text in texts:
        one = MinHash(num_perm=BANDS * ROWS)
        one.update_batch([text[i : i + 3].encode() for i in range(max(1, len(text) - 2))])
    theirs = time.process_time() - start
    print(f"{len(texts):,} signatures: {ours:.2f} CPU seconds, datasketch {theirs:.2f}")
    print(f"ratio: {theirs / ours:.1f}")


if __name__ == "__main__":
    main()
