# How gunicorn serves liqmap's API. Addresses, workers, threads and the backlog come from liqmap.toml ([api]); limits,
# timeouts and hooks from liqmap/api/serving.py, which says why. A line below the last one overrides any of them, with
# the names of gunicorn's own settings (https://docs.gunicorn.org/en/stable/settings.html), for example:
#
#   accesslog = "-"
#   keepalive = 60

from liqmap.api.serving import settings

globals().update(settings())
