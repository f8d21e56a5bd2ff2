"""sacreBLEU's BLEU-4, and BLEU-2 as papers on ESConv count it."""

from mh_support.metrics.bleu.bleu import Bleu, from_statistics, item_statistics, signature

__all__ = ["Bleu", "from_statistics", "item_statistics", "signature"]
