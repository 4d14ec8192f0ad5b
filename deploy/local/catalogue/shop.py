"""The demo's shop: products of every kind in many styles, and what people type to find them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from random import Random

PRODUCTS_A_TRAIT = 9


@dataclass(frozen=True)
class Product:
    """Something to sell; what sets it apart are `trait` (what it is for) and style, material and price (tastes)."""

    object_id: str
    title: str
    text: str
    kind: str
    trait: int
    style: str
    material_family: str
    price: str


@dataclass(frozen=True)
class Query:
    """A search text. It asks for all products of a kind, or for those with one trait of it."""

    text: str
    kind: str
    trait: int | None = None
    reworded: bool = False
    """Whether it says in other words what the plain query of its kind says."""

    def asks_for(self, product: Product) -> bool:
        return product.kind == self.kind and self.trait in {None, product.trait}


def make_products(words: dict[str, Any], chance: Random) -> list[Product]:
    """Nine products for each of three traits of every kind; styles and materials are dealt evenly, each title once."""
    families = {material: family for family, materials in words["materials"].items() for material in materials}
    products = []
    for kind in words["kinds"]:
        count = PRODUCTS_A_TRAIT * len(kind["traits"])
        names = chance.sample(words["names"]["products"], count)
        styles = _deal(sorted(words["styles"]), count, chance)
        materials = _deal(kind["materials"], count, chance)
        for number, (name, style, material) in enumerate(zip(names, styles, materials, strict=True)):
            trait = number % len(kind["traits"])
            price = _price(words, style, chance)
            title = f"{name} {kind['one'].removeprefix('pair of ')} in {material}"
            says = chance.choice(words["styles"][style]["says"])
            colour = chance.choice(words["colours"]["names"])
            feature = kind["traits"][trait][0]
            product_id = f"{kind['many'].replace(' ', '-')}-{name.lower()}"
            text = f"{title}: {feature}. {says.capitalize()}. {colour.capitalize()}, {price[1]}."
            products.append(Product(product_id, title, text, kind["one"], trait, style, families[material], price[0]))
    return products


def make_queries(words: dict[str, Any]) -> list[Query]:
    """For each kind, its plain query, the same in other words, and one for each trait."""
    queries = []
    for kind in words["kinds"]:
        queries.append(Query(kind["many"], kind["one"]))
        queries.append(Query(kind["reworded"], kind["one"], reworded=True))
        queries.extend(Query(text, kind["one"], trait) for trait, (_, text) in enumerate(kind["traits"]))
    return queries


def _deal(cards: list[str], count: int, chance: Random) -> list[str]:
    """`count` cards in random order, each about as often as any other."""
    dealt = [cards[i % len(cards)] for i in range(count)]
    chance.shuffle(dealt)
    return dealt


def _price(words: dict[str, Any], style: str, chance: Random) -> tuple[str, str]:
    """A price band and how to say it: mostly the one that is usual for the style."""
    usual = words["styles"][style]["price"]
    band = usual if chance.random() < 0.6 else chance.choice(sorted(words["prices"]))
    return band, chance.choice(words["prices"][band])
