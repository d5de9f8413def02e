"""Searches only the lists of items that are closest to a query: an inverted file of faiss.

Dimensions: D hidden, P hidden and bias, padded, N items, X excluded items, R rows that are found.
"""

import io
from typing import Any

import numpy as np

from steersman.v1.bundle_pb2 import Effort
from steersman_service.bundle.bundle import LISTS, Array, Bundle
from steersman_service.bundle.files import MANIFEST
from steersman_service.engine.index.exact import Terms
from steersman_service.errors import BundleError, StartupError

MEASURED_ITEMS = 20
"""Items of a query for which recall was measured. For fewer, no fewer candidates are scored."""


class Lists:
    """`index.faiss` (proto/README.md): items in a few bits for each number, so that what is found has to be scored again."""

    def __init__(self, bundle: Bundle, threads: int) -> None:
        """Raises BundleError for a file that is no index of the bundle's items, StartupError where faiss is not installed."""
        try:
            # Here: only a bundle with such a file needs it.
            import faiss
        except ImportError:
            raise StartupError(f"the bundle carries {LISTS}: install faiss-cpu, or set search to exact") from None
        self._faiss: Any = faiss
        self._threads = max(1, threads)
        self._efforts = bundle.manifest.index.efforts
        if not self._efforts:
            raise BundleError(MANIFEST, f"does not say how {LISTS} is to be searched")
        try:
            self._index = self._faiss.read_index(self._faiss.PyCallbackIOReader(io.BytesIO(bundle.read(LISTS)).read))
        except BundleError:
            raise
        except Exception as error:
            raise BundleError(LISTS, f"faiss does not read it: {error}") from error
        lists = getattr(self._index, "invlists", None)
        if lists is None or isinstance(faiss.downcast_InvertedLists(lists), faiss.OnDiskInvertedLists):
            raise BundleError(LISTS, "has no lists, or has them in another file; it has to hold them itself")
        items, hidden = bundle.items_ND.shape
        self._size = self._index.d
        if self._index.ntotal != items or self._size <= hidden:
            raise BundleError(
                LISTS,
                f"holds {self._index.ntotal} items of {self._size} numbers; the bundle has {items} of {hidden} and a bias",
            )

    def candidates(self, query_D: Array, terms: Terms, k: int, depth: float) -> Array:
        """Rows that should hold the k best eligible items, if these are among the best `depth` of all. (R)

        Empty where that is deeper than was measured.
        """
        size = self._index.ntotal
        probes, per_item = self._effort(depth).probes, self._effort(k).candidates_per_item
        if not probes:
            return np.zeros(0, np.int64)
        faiss, selector = self._faiss, self._selector(terms)
        # A setting of the calling thread.
        faiss.omp_set_num_threads(self._threads)
        query_P = np.zeros(self._size, np.float32)
        query_P[: len(query_D)] = query_D
        query_P[len(query_D)] = 1
        count = min(size, max(k, MEASURED_ITEMS) * per_item)
        parameters = faiss.SearchParametersIVF(nprobe=probes, sel=selector)
        rows_R: Array = self._index.search(query_P[None], count, params=parameters)[1][0]
        return rows_R[rows_R >= 0]

    def _effort(self, depth: float) -> Effort:
        """The least that is enough, or an empty one."""
        return next((effort for effort in self._efforts if depth <= effort.depth), Effort())

    def _selector(self, terms: Terms) -> Any:
        """Of eligible items; None if all are."""
        if terms.eligible_N is not None:
            mask_N: Array = terms.mask(len(terms.eligible_N))  # type: ignore[assignment]  # there is one
            return self._faiss.IDSelectorBitmap(np.packbits(mask_N, bitorder="little"))
        if len(terms.excluded_X):
            return self._faiss.IDSelectorNot(self._faiss.IDSelectorBatch(terms.excluded_X))
        return None
