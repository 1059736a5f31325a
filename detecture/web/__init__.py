"""The page of `tools/demo_web.py`: drop an image, see its regions, in a browser.

`service` answers requests and knows nothing about the web, `view` draws an answer as HTML, `page`
is the gradio page, `server` starts it. Nothing here imports gradio before `server.WebDemo` is made.
"""
