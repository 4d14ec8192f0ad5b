"""What other systems call the types of interactions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_ALIASES: Final = {
    "impression": "view",
    "impressions": "view",
    "product_view": "view",
    "page_view": "view",
    "hover": "view",
    "product_hover": "view",
    "item_click": "click",
    "product_click": "click",
    "clicked": "click",
    "viewed": "view",
    "purchased": "purchase",
    "buy": "purchase",
    "order": "purchase",
    "conversion": "purchase",
    "cart": "add_to_cart",
    "addtocart": "add_to_cart",
    "add_cart": "add_to_cart",
    "like": "positive_feedback",
    "liked": "positive_feedback",
    "thumbs_up": "positive_feedback",
    "dislike": "negative_feedback",
    "declined_product": "negative_feedback",
    "thumbs_down": "negative_feedback",
    "save": "bookmark",
    "saved": "bookmark",
    "favorite": "bookmark",
    "favourite": "bookmark",
    "add_to_wishlist": "wishlist",
    "type_filter": "filter_toggle",
    "brand_filter": "filter_toggle",
    "filter": "filter_toggle",
    "query_reformulation": "query_refinement",
}
_BETWEEN_WORDS: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[\s\-.]+")


class Names:
    """Translates names of types."""

    def __init__(self, own: Mapping[str, str]) -> None:
        """`own` names come first, and are compared as they are."""
        self._own = dict(own)

    def type_of(self, name: str) -> str:
        """Return the type that a name stands for; a name that is not known is a type of its own, in lower case."""
        if name in self._own:
            return self._own[name]
        plain = _BETWEEN_WORDS.sub("_", name.strip()).lower()
        return _ALIASES.get(plain, plain)
