"""Sessions of operators. The browser holds a cookie and a CSRF token; the tokens of the user service stay here.

rules     which page may send a request
memory    the sessions of this process
actions   log in, log out, and check a session
guard     what every route of the API depends on
"""
