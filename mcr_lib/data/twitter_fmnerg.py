"""Twitter-FMNERG (Wang et al., ACM MM 2023): the tweets, spans and boxes of Twitter-GMNER v2 with 51 fine
types.

Its text files (`txt_fine/`) hold token, coarse tag (8 types) and fine tag (51 types); the fine tag is the
type here.
"""

from mcr_lib.data.twitter_gmner import TxtLayout

_FINE = {
    "PER": "actor artist athlete author businessman character coach director intellectual journalist musician person_other politician",
    "LOC": "building_other cultural_place entertainment_place sports_facility city continent country location_other park road state",
    "ORG": "band company educational_institution government_agency news_agency organization_other political_party social_organization"
    " sports_league sports_team",
    "OTHER": "art_other film_and_television_works magazine music written_work event_other festival sports_event animal award"
    " medical_thing ordinance website brand_name_products game product_other software",
}

COARSE_OF = {fine: coarse for coarse, names in _FINE.items() for fine in names.split()}
"""Fine type -> type of Twitter-GMNER; holds for every entity of the release without exception."""

LABELS = tuple(COARSE_OF)

FMNERG = TxtLayout("twitter-fmnerg", "txt_fine", 3, LABELS)
