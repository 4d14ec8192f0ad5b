"""The demo's shoppers: people made up of tastes, who want what a query asks for in the styles they like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from random import Random

    import numpy as np

    from deploy.local.catalogue.shop import Product, Query

SHOPPERS = 60
LEARNED = 6
"""Queries that a shopper types while the service watches."""
SIMILAR = 8
UNRELATED = 6
LEAST_WANTED = 3
"""A query is of use when the shopper wants at least that many of the products it asks for."""
NEAR = 0.45
"""The least cosine of a similar query with a learned one."""
FAR = 0.3
"""The largest cosine of an unrelated query with any learned one."""


@dataclass(frozen=True)
class Taste:
    """What a shopper likes in products of whatever kind."""

    styles: frozenset[str]
    material_families: frozenset[str]
    price: str

    def likes(self, product: Product) -> bool:
        """Whether two of three agree: style, material, price."""
        agreeing = (
            (product.style in self.styles)
            + (product.material_family in self.material_families)
            + (product.price == self.price)
        )
        return agreeing >= 2


@dataclass(frozen=True)
class Shop:
    """What there is to buy and to type; `nearness` [Q, Q] has the cosines between queries."""

    products: list[Product]
    queries: list[Query]
    nearness: np.ndarray[Any, Any]


def make_shoppers(words: dict[str, Any], shop: Shop, chance: Random) -> list[dict[str, Any]]:
    """People with queries by role and the products relevant to each, as indices."""
    return [
        {"user_id": f"shopper-{number:02}", **_shopper(_taste(words, chance), shop, chance)}
        for number in range(1, SHOPPERS + 1)
    ]


def _taste(words: dict[str, Any], chance: Random) -> Taste:
    return Taste(
        frozenset(chance.sample(sorted(words["styles"]), 2)),
        frozenset(chance.sample(sorted(words["materials"]), 2)),
        chance.choice(sorted(words["prices"])),
    )


def _shopper(taste: Taste, shop: Shop, chance: Random) -> dict[str, Any]:
    queries = shop.queries
    relevant = [
        [row for row, product in enumerate(shop.products) if query.asks_for(product) and taste.likes(product)]
        for query in queries
    ]
    plain = [
        index
        for index, query in enumerate(queries)
        if query.trait is None and not query.reworded and len(relevant[index]) >= LEAST_WANTED
    ]
    train = chance.sample(plain, LEARNED)
    reworded = [
        index
        for learned in train
        for index, query in enumerate(queries)
        if query.reworded and query.kind == queries[learned].kind
    ]
    nearness = shop.nearness[:, train].max(axis=1)
    others = [i for i in range(len(queries)) if i not in {*train, *reworded} and relevant[i]]
    similar = sorted((i for i in others if nearness[i] >= NEAR), key=lambda i: -nearness[i])[:SIMILAR]
    far = [i for i in others if nearness[i] <= FAR]
    unrelated = chance.sample(far, min(UNRELATED, len(far)))
    return {
        "train": train,
        "reworded": reworded,
        "similar": similar,
        "unrelated": unrelated,
        "relevant": {str(i): relevant[i] for i in [*train, *reworded, *similar, *unrelated]},
    }
