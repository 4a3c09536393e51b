"""What gunicorn reads where etc/gunicorn.conf.py is not installed; each reading asks the configuration anew."""

from liqmap.api.serving import settings

globals().update(settings())
