"""A Django site in one file: a view that sleeps in the loop, and one that does so in a thread."""

import time

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse
from django.urls import path

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"])


async def report(_request):
    """Pause the reactor."""
    time.sleep(0.4)  # noqa: ASYNC251 - which is what it is about
    return HttpResponse("slow")


def report_in_thread(_request):
    """Pause only a thread."""
    time.sleep(0.4)
    return HttpResponse("slow")


urlpatterns = [path("slow", report), path("thread", report_in_thread)]
application = get_asgi_application()
