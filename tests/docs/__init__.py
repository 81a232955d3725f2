"""The documentation: what can be run is run, what it lists is there, and it builds strictly.

`test_snippets.py`: Python blocks run, those of one kind of job together; how long they may take.
    `snippets.py`: how a page's blocks run, and which data they find.
`test_commands.py`: commands of shell blocks are ones that there are.
`test_facts.py`: tables of options, kinds, exit codes and phases are complete.
`test_links.py`: links lead somewhere. `pages.py`: the pages, and the blocks in them.
`test_messages.py`: `docs/messages.md`, which `messages_page.py` writes from the errors that
    `messages.py` finds in the source; `cures.txt` has the cures that do not stand there.
`test_api.py`: docs/api.md has every public name. `test_site.py`: the site builds strictly.
"""
