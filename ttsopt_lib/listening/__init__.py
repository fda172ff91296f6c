"""A listening test to give to people, and their ratings read back in.

`make_listening_test` makes a folder with one page that any web server or `file://`
serves; `collect_ratings` maps what listeners sent back to the variants. The page
`docs/listening.md` says how to run a test.
"""
