"""A spider whose `parse` sleeps."""

import os
import time

import scrapy


class Local(scrapy.Spider):
    """Reads the pages of a site of this machine."""

    name = "local"
    start_urls = (os.environ["SITE"],)
    custom_settings = {"ROBOTSTXT_OBEY": False, "TELNETCONSOLE_ENABLED": False}

    def parse(self, response):
        """Take a page apart, slowly."""
        time.sleep(0.4)
        yield {"url": response.url}
